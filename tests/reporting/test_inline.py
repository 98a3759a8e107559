"""Parts of a report in a notebook: those of the page, nothing outside the cell, mistakes named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer, write_orders

from hf_align.commands import sft
from hf_align.data.prepare import prepare_datasets
from hf_align.errors import UserError
from hf_align.reporting.html import report_view
from hf_align.reporting.inline import CLASS, confined_style, show_rows, show_run, show_runs
from hf_align.runs.metrics import read_metrics
from hf_align.runs.record import read_run
from hf_align.sft.recipe import parse_sft


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two short runs with held-out rows and sample answers."""
    folder = tmp_path_factory.mktemp("inline")
    model = save_tiny_checkpoint(folder / "model")
    train, held_out = (write_orders(folder / f"{name}.jsonl", 8) for name in ("train", "held_out"))
    for name in ("one", "two"):
        options = {"model_name_or_path": model, "datasets": train, "eval_datasets": held_out}
        options |= {"output_dir": str(folder / name), "max_steps": "2", "use_cpu": "true", "num_samples": "4"}
        options |= {"sample_max_new_tokens": "4", "save_strategy": "no"}
        sft.main([part for key, value in options.items() for part in (f"--{key}", value)])
    return [folder / "one", folder / "two"]


def test_parts_are_those_of_the_page_in_the_order_asked_for(runs: list[Path]) -> None:
    shown = show_run(runs[0], "generations", "loss", "facts")
    view = report_view(read_run(runs[0]), read_metrics(runs[0] / "metrics.jsonl"), str(runs[0]))
    html = shown._repr_html_()
    places = [html.index(part) for part in ('class="generation"', "<svg", 'class="facts"')]
    assert places == sorted(places)
    # Three of the four answers, and of the curves the loss alone, in its two sizes.
    assert html.count('class="generation"') == 3 and html.count("<svg") == 2
    assert all(fact.value in html for fact in view["facts"])
    assert str(view["plots"][0].forms["wide"]) in html
    assert str(shown) == f"{runs[0]}: generations, loss, facts"
    assert show_run(runs[0]).html == show_run(runs[0], "facts", "loss").html


def test_several_runs_stand_side_by_side(runs: list[Path]) -> None:
    html = show_runs(runs).html
    assert "Held-out loss" in html and "<svg" in html
    assert [name in html for name in (">one<", ">two<")] == [True, True]


def test_rows_are_shown_with_their_marks(tmp_path: Path) -> None:
    options = ["--datasets", write_orders(tmp_path / "rows.jsonl", 3), "--model_name_or_path", "none"]
    config = parse_sft([*options, "--output_dir", str(tmp_path / "run")])
    tokenizer = tiny_tokenizer()
    data = prepare_datasets(config.data, tokenizer, seed=0)
    html = show_rows([data.train[0], data.train[1]], tokenizer).html
    assert html.count('class="tokens"') == 2
    # One mark a token, and one in the legend.
    assert html.count("<mark") == 1 + data.train[0].target_tokens + data.train[1].target_tokens


def test_the_style_stays_in_its_cell() -> None:
    style = confined_style()
    assert style.startswith(f".{CLASS} {{") and style.count("{") == style.count("}")
    # A page's own selectors would reach the whole notebook.
    assert not re.search(r"(^|\s)(:root|body|html) \{(?! -webkit)", style)


def test_mistakes_are_named(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no part 'los'; .*loss"):
        show_run(runs[0], "los")
    with pytest.raises(UserError, match=r"has no ppo; it has facts, loss, curves"):
        show_run(runs[0], "ppo")
    with pytest.raises(UserError):
        show_run(tmp_path)
