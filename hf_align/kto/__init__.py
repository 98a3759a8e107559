"""KTO: learning from single answers with a label, desirable or not."""
