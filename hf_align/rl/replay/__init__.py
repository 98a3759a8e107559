"""Recorded rollouts, and computing one of them again bit for bit."""
