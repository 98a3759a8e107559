"""Attention on packed rows, and the probe that finds out which models can be packed."""
