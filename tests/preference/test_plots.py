"""Drawings of a preference run."""

from __future__ import annotations

from xml.etree import ElementTree

from helpers.preference_record import ROWS

from hf_align.preference.plots import preference_plots


def test_every_quantity_has_a_drawing_that_stands_beside_others() -> None:
    plots = preference_plots(ROWS, bound=0.5)
    assert [plot.title for plot in plots] == [
        "Rewards",
        "Reward margin",
        "Pairs in the right order",
        "Log-probability of the answers",
        "Change of the chosen answers",
        "Distance from the reference",
    ]
    ids: list[str] = []
    for plot in plots:
        (drawing,) = plot.forms.values()
        root = ElementTree.fromstring(str(drawing))
        ids += [element.get("id", "") for element in root.iter() if element.get("id")]
        assert "#0" not in str(drawing), "colours come from the page"
    assert len(ids) == len(set(ids))
    rewards = plots[0]
    assert "Training (chosen answers) from 0.1 to 1.2, steps 1 to 12" in rewards.summary
    assert "training (rejected answers) from -0.2 to -2.4" in rewards.summary
    assert "chosen answers" in str(rewards.forms["small"]) and "rejected answers" in str(
        rewards.forms["small"]
    )
    assert "held-out from 0 to 1.2, steps 0 to 12" in plots[1].summary
    assert plots[1].note == "Diamonds: held-out prompts." and not plots[0].note
    # The curve ends at -0.6: the bound is near enough to be shown.
    assert "warned below" in str(plots[4].forms["small"])
    assert "warned below" not in str(preference_plots(ROWS, bound=9.0)[4].forms["small"])


def test_only_what_was_logged_is_drawn() -> None:
    assert preference_plots([]) == []
    without = [{key: row[key] for key in row if "chosen_change" not in key and key != "kl"} for row in ROWS]
    assert len(preference_plots(without)) == 4
    bad = [{**row, "kl": float("nan") if row.get("step") == 3 else row.get("kl")} for row in ROWS]
    assert "at step 3 the value was not finite" in preference_plots(bad)[-1].note
