"""Objectives whose batches say themselves what counts: masked tokens and span boundaries."""
