"""Ladder side tuning."""
