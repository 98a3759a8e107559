"""Pure functions from tensors to per-example or per-token losses; the caller reduces."""

from hf_align.losses.language_model import negative_log_likelihood, perplexity

__all__ = ["negative_log_likelihood", "perplexity"]
