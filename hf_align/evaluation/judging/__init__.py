"""Rewards, preferences, win rates and judges."""
