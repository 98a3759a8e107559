"""The commands that belong to no stage. Every command is found here by name (``hf_align.public_names``)."""
