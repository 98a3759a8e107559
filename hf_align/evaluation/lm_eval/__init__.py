"""Tasks of lm-eval on the engine of this package."""
