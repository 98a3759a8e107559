"""Rewards of answers: Python functions, reward models, several of them weighted."""
