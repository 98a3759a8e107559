"""Rows in, tokenised rows and micro-batches out."""
