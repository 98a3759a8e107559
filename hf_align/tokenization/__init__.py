"""Tokenizers: training one, extending the vocabulary of another, measuring both."""
