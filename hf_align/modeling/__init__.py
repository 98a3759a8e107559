"""Models: loading, attention over segments, log-probabilities of targets, precision, quantisation."""
