"""The drawing of a confusion matrix."""

from __future__ import annotations

from hf_align.classify.plots import MOST_CLASSES, confusion_plot


def test_the_drawing_says_what_it_shows():
    plot = confusion_plot({"confusion": [[8, 2], [1, 9]]}, ["a", "b"])
    assert plot.summary == (
        "17 of 20 held-out rows are on the diagonal; the most frequent mistake is b for a (2)."
    )
    many = [[0] * (MOST_CLASSES + 1)] * (MOST_CLASSES + 1)
    assert confusion_plot({"confusion": many}, [str(i) for i in range(MOST_CLASSES + 1)]) is None
