"""Preference optimization (DPO and its family): recipe, command, objective, reference, report, card."""
