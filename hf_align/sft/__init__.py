"""Supervised fine-tuning: recipe, command, model card."""
