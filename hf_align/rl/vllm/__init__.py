"""A vLLM server that samples in our place."""
