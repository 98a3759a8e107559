"""Rows of held-out metrics, and what merging changed."""

from __future__ import annotations

from hf_align.reporting.held_out import held_out_row, merged_setting
from hf_align.runs import formatting


def test_before_after_and_interval() -> None:
    after = {"margin": -0.5, "margin_interval": [-1.0, 0.25]}
    row = held_out_row("Margin", {"margin": 0.5}, after, "margin", formatting.signed_loss)
    assert row == {"name": "Margin", "cells": ["0.5", "−0.5", "−1 to 0.25"]}
    assert held_out_row("M", {}, {}, "margin", formatting.loss)["cells"] == ["–", "–", ""]
    broken = {"margin": 1, "margin_interval": [None, 2]}
    assert held_out_row("M", {}, broken, "margin", formatting.loss)["cells"][2] == ""


def test_what_merging_changed() -> None:
    ((what, words),) = merged_setting({"merge": {"largest": 2.34e-6}}, "largest", "scores")
    assert what == "Saved" and "scores differ by up to 2e-06 standard deviations" in words
    assert merged_setting({"merge": "x"}, "largest", "scores") == []
