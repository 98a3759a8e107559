"""Reward models: recipe, command, objective, report, card."""
