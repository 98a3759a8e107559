"""Answers from models: many continuations at once, one that is streamed, and how tokens are chosen."""
