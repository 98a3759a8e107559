"""Multiple choice: files, prompts, scores."""
