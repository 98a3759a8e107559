"""Figures of classification: formulas in NumPy, and the same as metrics of the ``evaluate`` library."""
