"""Pipelines: stages that build on each other, run as processes, and one report on them."""
