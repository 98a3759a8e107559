"""Figures that say how good a model is, from its outputs on held-out rows."""
