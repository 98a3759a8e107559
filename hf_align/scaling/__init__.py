"""Scaling laws: how the loss of a model falls with its parameters and its tokens, and what that says of a
budget."""

from hf_align.scaling.parametric import ScalingFit, bootstrap_fits, fit_parametric
from hf_align.scaling.power_law import PowerLaw, fit_power_law, parabola_minimum

__all__ = [
    "PowerLaw",
    "ScalingFit",
    "bootstrap_fits",
    "fit_parametric",
    "fit_power_law",
    "parabola_minimum",
]
