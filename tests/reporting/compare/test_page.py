"""comparison.html: several runs in one page, whatever they logged and whatever they lack."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser

import pytest
from helpers.compared_runs import RECORD, ROWS, cells, page_of, run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hf_align.reporting.compare.page import write_comparison
from hf_align.reporting.compare.runs import ComparedRun
from hf_align.reporting.compare.tables import headline_table
from hf_align.runs.metrics import MetricsLog
from hf_align.runs.schema import Record


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
def test_no_best_where_the_metrics_do_not_compare(changes, label, note):
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


def test_metrics_of_unknown_stages_and_of_interrupted_runs():
    ppo = run("B", command="ppo", final_metrics={"reward/mean": 1.5, "objective/kl": "NaN"})
    cut = run("C", status="interrupted", final_metrics=None, tokens_per_second=None)
    rows, _ = headline_table([run("A"), ppo, cut])
    assert cells(rows, "reward/mean") == ["–", "1.5", "–"]
    assert cells(rows, "objective/kl") == ["–", "NaN", "–"]
    assert cells(rows, "Held-out loss") == ["0.5", "0.5", "0.5"]  # from the log where the record has none
    assert cells(rows, "Optimizer steps") == ["8", "8", "8"]
    early = run("D", rows=[{"step": 0, "eval_loss": 3.0}], final_metrics={})
    assert cells(headline_table([run("A"), early])[0], "Held-out loss") == ["0.5", "–"]


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
@example(records=[{}, {}], rows=[{"step": 9e307, "loss": 0.0}, {"step": 1, "loss": 1.0}])
def test_no_record_and_no_log_breaks_the_page(records, rows):
    runs = [
        ComparedRun("AB C"[place], f"run {place}", "folder", Record.of(record), MetricsLog(rows, place))
        for place, record in enumerate(records)
    ]
    Page(page_of(runs))
