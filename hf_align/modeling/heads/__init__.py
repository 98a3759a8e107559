"""Heads that run inside a model's own forward: target tokens, sequences, rewards."""
