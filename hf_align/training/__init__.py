"""The training loop: one subclass of transformers.Trainer, its callbacks, resuming."""

# Before transformers' Trainer: what is said of libraries there holds here as well.
import hf_align.modeling  # noqa: F401
