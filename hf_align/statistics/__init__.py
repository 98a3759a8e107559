"""Pure functions on numbers: intervals, calibration, metrics, Best-of-N."""
