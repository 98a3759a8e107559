"""Compared answers: forms, conversion, encoding, batches."""
