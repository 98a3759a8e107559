"""Names that recipes take from transformers, with what goes with each."""
