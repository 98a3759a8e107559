"""Prepared rows on disk: cache, fingerprint, flat files, worker processes."""
