"""comparison.html: several runs in one page, whatever they logged and whatever they lack."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_align.reporting.compared_run import ComparedRun, read_runs
from hf_align.reporting.comparison import comparison_view, write_comparison
from hf_align.reporting.comparison_plots import comparison_plots, legend, run_style
from hf_align.reporting.comparison_samples import shared_generations
from hf_align.reporting.comparison_tables import (
    data_table,
    environment_table,
    headline_table,
    recipe_table,
)
from hf_align.reporting.html import render_template
from hf_align.reporting.metrics import MetricsLog

RECORD = {
    "command": "sft",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "models/Tiny",
        "datasets": [{"path": "a.jsonl", "weight": 1.0, "split": "train"}],
        "eval_datasets": [{"path": "e.jsonl"}],
        "adapter": "lora",
        "lora_r": 8,
        "learning_rate": 0.002,
        "run_name": None,
        "output_dir": "runs/x",
    },
    "machine": {"cpu": "Some CPU", "cores": 2, "accelerator": None},
    "versions": {"torch": "2.13"},
    "data_report": {
        "sources": [{"name": "a", "read": 9, "dropped": 0, "tokens": 90, "target_tokens": 30}],
        "train_rows": 9,
        "eval_rows": 3,
        "fingerprint": "f1",
    },
    "final_metrics": {"eval_loss": 0.5, "eval_token_accuracy": 0.9, "train_loss": 0.7, "steps": 8},
    "tokens_per_second": 100.0,
    "peak_memory_bytes": 2**30,
    "wall_time_seconds": 60.0,
}
ROWS = [
    {"step": step, "time_seconds": 10.0 * step, "loss": 2.0 / step, "target_tokens": 50, "learning_rate": 0.1}
    for step in range(1, 9)
] + [{"step": 8, "time_seconds": 85.0, "eval_loss": 0.5, "eval_target_tokens": 30}]


def run(mark, *, rows=ROWS, name=None, **changes):
    record = copy.deepcopy(RECORD)
    for key, value in changes.items():
        part, dot, inner = key.partition("__")
        if dot:
            record[part][inner] = value
        else:
            record[part] = value
    return ComparedRun(mark, name or f"run {mark}", f"runs/{mark}", record, MetricsLog(list(rows), 0))


def cells(rows, label):
    (row,) = [row for row in rows if row["label"] == label]
    return [cell["text"] for cell in row["cells"]]


def best(rows, label):
    (row,) = [row for row in rows if row["label"] == label]
    return [cell["best"] for cell in row["cells"]]


class Page(HTMLParser):
    """Checks that tags are balanced; collects ids, links and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.links, self.text, self.tags = [], [], [], "", set()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        known = dict(attributes)
        if "id" in known:
            self.ids.append(known["id"])
        self.links += [known[key] for key in ("href", "src") if key in known]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(runs):
    return render_template("comparison.html.jinja", **comparison_view(runs))


def test_the_page_is_whole_self_contained_and_names_every_run(tmp_path):
    folders = []
    for name, loss in (("a", 0.5), ("b", 0.25)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        record = copy.deepcopy(RECORD)
        record["final_metrics"]["eval_loss"] = loss
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        folders.append(folder)
    path = write_comparison(folders)
    assert path == tmp_path / "runs" / "comparison.html"
    page = Page(path.read_text())
    assert "script" not in page.tags
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert all(str(folder) in page.text for folder in folders)
    first = path.read_bytes()
    assert write_comparison(folders).read_bytes() == first


def test_everything_from_runs_is_escaped():
    evil = "<script>alert(1)</script>"
    rows = [{"step": 1, "loss": 1.0, evil: 2.0}, {"step": 2, "loss": 1.0, evil: 3.0}]
    generations = [{"prompt": evil, "after": evil, "reference": evil, "source": evil}]
    runs = [
        run(mark, rows=rows, name=evil, generations=generations, recipe__lora_r=f"{mark}{evil}", status=evil)
        for mark in "AB"
    ]
    page = page_of(runs)
    assert "script" not in Page(page).tags and "&lt;script&gt;" in page


def test_any_logged_number_is_drawn():
    """Keys of a stage that nobody here knows, with every character a key can have."""
    odd = r"rewards/margins: \1 «x» & 'y'"
    ppo = run(
        "B", command="ppo", rows=[{"step": s, odd: float(s), "objective/kl": 0.1 * s} for s in range(5)]
    )
    plots, minor = comparison_plots([run("A"), ppo])
    titles = [plot.title for plot in plots]
    assert titles[:3] == ["Training loss", "Training loss over time", "Training loss over tokens"]
    assert titles[-2:] == [odd, "objective/kl"]
    assert [plot.title for plot in minor] == ["target_tokens", "eval_target_tokens"]
    ids = []
    for plot in [*plots, *minor]:
        for form in plot.forms.values():
            tree = ElementTree.fromstring(str(form))
            ids += [node.get("id") for node in tree.iter() if node.get("id")]
            assert not re.search(r"(?:stroke|fill): #", str(form))
    assert len(ids) == len(set(ids))
    assert plots[-1].summary == "Last values: B 0.4."


def test_curves_keep_their_colour_and_letter():
    (loss, *_), _ = comparison_plots([run("A", rows=[]), run("B"), run("C")])
    for form in loss.forms.values():
        text = str(form)
        assert "var(--run-1)" not in text and "var(--run-2)" in text and "var(--run-3)" in text
        assert re.search(r">\s*B\s*</text>", text) and re.search(r">\s*C\s*</text>", text)
    shown = legend([run("A"), run("B")])
    assert [look["color"] for look in shown] == ["var(--run-1)", "var(--run-2)"]
    assert shown[0]["dashes"] == "" != shown[1]["dashes"]


def test_no_two_of_64_runs_look_alike():
    assert len({run_style(number) for number in range(64)}) == 64
    assert len({run_style(number)[1] for number in range(8)}) == 8  # eight runs differ by dashes alone


def test_time_and_tokens_axes():
    from hf_align.reporting.comparison_plots import _other_axes, _over
    from hf_align.reporting.metrics import Series

    (time, times), (tokens, seen) = _other_axes([run("A")])
    assert time.label == "seconds since the start" and times[0][3] == 30.0
    assert tokens.text(4_880_000) == "4.88 M" and seen[0] == {step: 50.0 * step for step in range(1, 9)}
    # An evaluation stands at the tokens of the last step before it; before the first step there were none.
    moved = _over(Series([0.0, 4.5, 9.0], [3.0, 2.0, 1.0], []), seen[0])
    assert moved.steps == [0.0, 200.0, 400.0] and moved.values == [3.0, 2.0, 1.0]


def test_the_best_is_marked_where_more_or_less_is_better():
    runs = [run("A"), run("B", final_metrics__eval_loss=0.25, final_metrics__eval_token_accuracy=0.8)]
    rows, notes = headline_table(runs)
    assert cells(rows, "Held-out loss") == ["0.5", "0.25"] and best(rows, "Held-out loss") == [False, True]
    assert best(rows, "Held-out tokens right") == [True, False]
    assert best(rows, "Optimizer steps") == [False, False]
    assert best(rows, "Wall time") == [False, False]  # equal: none is better
    assert notes == []


@pytest.mark.parametrize(
    ("changes", "label", "note"),
    [
        ({"command": "dpo"}, "Held-out loss", "different stages"),
        ({"recipe__eval_datasets": [{"path": "other"}]}, "Held-out loss", "different rows"),
        ({"final_metrics__eval_target_tokens": 31}, "Held-out loss", "different rows"),
        ({"machine__cpu": "Other CPU"}, "Throughput, tokens/s", "different machines"),
    ],
)
def test_no_best_where_the_figures_do_not_compare(changes, label, note):
    runs = [run("A"), run("B", final_metrics__eval_loss=0.25, tokens_per_second=9.0)]
    assert any(best(headline_table(runs)[0], label))
    for key, value in changes.items():
        part, dot, inner = key.partition("__")
        if dot:
            runs[1].record[part][inner] = value
        else:
            runs[1].record[part] = value
    rows, notes = headline_table(runs)
    assert not any(best(rows, label)) and note in " ".join(notes)


def test_figures_of_unknown_stages_and_of_interrupted_runs():
    ppo = run("B", command="ppo", final_metrics={"reward/mean": 1.5, "objective/kl": "NaN"})
    cut = run("C", status="interrupted", final_metrics=None, tokens_per_second=None)
    rows, _ = headline_table([run("A"), ppo, cut])
    assert cells(rows, "reward/mean") == ["–", "1.5", "–"]
    assert cells(rows, "objective/kl") == ["–", "NaN", "–"]
    assert cells(rows, "Held-out loss") == ["0.5", "0.5", "0.5"]  # from the log where the record has none
    assert cells(rows, "Optimizer steps") == ["8", "8", "8"]
    early = run("D", rows=[{"step": 0, "eval_loss": 3.0}], final_metrics={})
    assert cells(headline_table([run("A"), early])[0], "Held-out loss") == ["0.5", "–"]


def test_recipe_differences_only():
    other = run(
        "B",
        recipe__lora_r=16,
        recipe__output_dir="runs/y",
        recipe__run_name="y",
        recipe__datasets=[{"path": "a.jsonl", "weight": 2.0, "split": "train"}],
    )
    common, partial = recipe_table([run("A"), other])
    assert [row["label"] for row in common] == ["datasets", "lora_r"] and partial == []
    assert cells(common, "lora_r") == ["8", "16"]
    assert cells(common, "datasets") == ["a.jsonl {weight: 1}", "a.jsonl {weight: 2}"]
    dpo = run("C", recipe__beta=0.1)
    common, partial = recipe_table([run("A"), dpo])
    assert common == [] and [row["label"] for row in partial] == ["beta"]
    assert cells(partial, "beta") == ["–", "0.1"]
    assert recipe_table([run("A"), run("B", recipe=None)]) == ([], [])


def test_secrets_in_recipes_stay_hidden():
    runs = [run("A", recipe__hub_token="hf_" + "a" * 24), run("B", recipe__hub_token=None)]
    page = page_of(runs)
    assert "hf_aaaa" not in page and "&lt;redacted&gt;" in page


def test_data_reports_in_short():
    fewer = run("B", data_report__fingerprint="f2", data_report__train_rows=7)
    fewer.record["data_report"]["sources"][0]["dropped"] = 2
    rows, notes = data_table([run("A"), fewer])
    assert cells(rows, "Training rows an epoch") == ["9", "7"]
    assert cells(rows, "Rows dropped") == ["0", "2"]
    assert notes == ["The runs did not have the same rows."]
    assert data_table([run("A"), run("B")])[1] == ["All runs had the same rows."]
    assert data_table([run("A", data_report=None), run("B", data_report=None)]) == ([], [])


def test_only_differing_versions_and_machines():
    assert environment_table([run("A"), run("B")]) == []
    rows = environment_table([run("A"), run("B", versions={"torch": "2.11"})])
    assert [row["label"] for row in rows] == ["torch"]


def generation(prompt, after, before="before"):
    return {"prompt": prompt, "reference": "yes", "before": before, "after": after, "after_stopped": True}


def test_generations_of_the_same_prompts_stand_together():
    a = run("A", generations=[generation("p1", "yes"), generation("p2", "yes"), generation("p3", "x")])
    b = run("B", generations=[generation("p2", "no"), generation("p1", "yes ")])
    views, note = shared_generations([a, b])
    assert [view["prompt"] for view in views] == ["p2", "p1"]
    assert [answer["name"] for answer in views[0]["answers"]] == [
        "Before training", "A · run A", "B · run B", "Reference",
    ]  # fmt: skip
    assert [answer["text"] for answer in views[0]["answers"]] == ["before", "yes", "no", "yes"]
    assert views[0]["answers"][1]["note"] == "equals the reference, stopped by itself"
    assert note.startswith("2 prompts in at least two runs, 1 of them answered differently")
    assert "1 more was sampled in one run only" in note


def test_generations_that_do_not_match():
    a, b = run("A", generations=[generation("p1", "x")]), run("B", generations=[generation("p2", "x")])
    assert shared_generations([a, b]) == ([], "The runs have no sampled prompt in common.")
    assert shared_generations([run("A"), run("B", generations="broken")]) == ([], "")
    c = run("C", generations=[generation("p1", None, before="other")])
    (view,), _ = shared_generations([a, b, c])
    assert [(answer["name"], answer["missing"]) for answer in view["answers"]] == [
        ("A · run A", ""), ("B · run B", "not sampled"), ("C · run C", "not generated"), ("Reference", ""),
    ]  # fmt: skip


def test_names_that_collide(tmp_path):
    places = ["x/lora", "y/lora", "z/full", "z/named", "w/named"]
    for place in places:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        name = "trial" if "named" in place else None
        (folder / "run.json").write_text(json.dumps({"recipe": {"run_name": name}}))
    runs = read_runs([tmp_path / place for place in places])
    assert [one.name for one in runs] == ["x/lora", "y/lora", "full", "trial (z/named)", "trial (w/named)"]
    assert [one.mark for one in runs] == ["A", "B", "C", "D", "E"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
numbers = st.integers(-3, 9) | st.floats() | st.none() | st.text(max_size=3)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    records=st.lists(
        st.dictionaries(st.sampled_from([*RECORD, "generations", "sample_exact_match", "model"]), anything),
        min_size=2,
        max_size=3,
    ),
    rows=st.lists(
        st.dictionaries(st.sampled_from(["step", "time_seconds", "loss", "eval_loss", "kl", "x y"]), numbers),
        max_size=6,
    ),
)
def test_no_record_and_no_log_breaks_the_page(records, rows):
    runs = [
        ComparedRun("AB C"[place], f"run {place}", "folder", record, MetricsLog(rows, place))
        for place, record in enumerate(records)
    ]
    Page(page_of(runs))
