"""The training loop: one subclass of transformers.Trainer, its callbacks, resuming."""
