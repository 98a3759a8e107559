"""Lines of metrics as a run logs them."""

from __future__ import annotations

from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def train(step, **values):
    return {"step": step, "loss": 1.0 / step, "learning_rate": 1e-3, **values}


def elements(plot):
    return [ElementTree.fromstring(str(form)) for form in plot.forms.values()]
