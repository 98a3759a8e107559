"""report.html: self-contained, escaped, well-formed, and never broken by what a run folder lacks."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.reporting.html import report_view, write_report
from hf_align.reporting.page import render_template
from hf_align.runs.metrics import METRICS_FILE, MetricsLog, append_metrics
from hf_align.runs.record import write_json
from hf_align.stages import STAGES

VOID = {"meta", "link", "br", "wbr"}
RECORD = {
    "command": "sft",
    "status": "completed",
    "started": "2025-03-04T05:06:07+00:00",
    "recipe": {
        "model_name_or_path": "models/Tiny-Instruct",
        "datasets": [{"path": "a.jsonl", "weight": 1.0}],
        "adapter": "lora",
        "lora_r": 8,
        "learning_rate": 0.002,
        "run_name": None,
        "output_dir": "runs/x",
    },
    "recipe_path": "recipes/sft/x.yaml",
    "overrides": {"learning_rate": 0.002},
    "versions": {"torch": "2.99"},
    "machine": {"cpu": "Some CPU", "cores": 2, "memory_bytes": 8 * 2**30, "accelerator": None},
    "model": {
        "parameters": 1000,
        "trainable_parameters": 50,
        "precision": "bf16",
        "attention": "segments",
    },
    "data_report": {"sources": [{"name": "a.jsonl", "read": 1234, "kept": 1234}], "train_rows": 1234},
    "final_metrics": {"eval_loss": 0.25, "eval_loss_before": 2.75, "eval_perplexity": 1.284},
    "tokens_per_second": 1834.2,
    "peak_memory_bytes": 3 * 2**29,
    "wall_time_seconds": 231.4,
    "mask_samples": [{"source": "a.jsonl:1", "tokens": [["ask ", False], ["ans", True], ["wer", True]]}],
    "generations": [
        {
            "source": "a.jsonl:9",
            "prompt": "What?",
            "reference": "That.",
            "before": "Well, it is",
            "after": "That.",
            "before_stopped": False,
            "after_stopped": True,
        }
    ],
    "sample_exact_match": {"before": 0.0, "after": 1.0},
}
ROWS = [{"step": 0, "eval_loss": 2.75}] + [
    {"step": step, "loss": 2.5 / step, "learning_rate": 1e-3, "grad_norm": 1.0} for step in range(1, 9)
]


class Page(HTMLParser):
    """Checks that tags are balanced; collects text, ids, headings, links and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(values["id"])
        self.links += [values[name] for name in ("href", "src", "action", "data") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


@pytest.fixture
def folder(tmp_path):
    def make(record=RECORD, rows=ROWS):
        run = tmp_path / "run"
        write_json(run / "run.json", record)
        for row in rows:
            append_metrics(run / METRICS_FILE, row)
        return run

    return make


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_tells_the_run(folder):
    path = write_report(folder())
    assert path.name == "report.html"
    page = read(path)
    assert page.headings == [
        "Tiny-Instruct, LoRA (r = 8)",
        "Curves",
        "Generations before and after training",
        "Data",
        "Trained tokens",
        "Recipe",
        "Versions and machine",
    ]
    for fact in (
        *("2.75 → 0.25", "perplexity 1.284", "0 % → 100 %", "of 1 k (5.0 %)", "bf16"),
        *(
            "1,234",
            "3 min 51 s",
            "1,834 tokens/s",
            "1.5 GiB",
            "4 March 2025, 05:06 UTC",
            "recipes/sft/x.yaml",
        ),
        *(
            "Some CPU",
            "8 GiB",
            "2.99",
            "2 of 3 tokens trained",
            "equals the reference, stopped by itself",
            "cut off",
        ),
    ):
        assert fact in page.text, fact


def test_a_version_that_was_not_tested_is_marked(folder):
    assert "2.99 (newer than tested)" not in read(write_report(folder())).text
    page = read(write_report(folder({**RECORD, "untested_versions": {"torch": "newer"}})))
    assert "2.99 (newer than tested)" in page.text


def test_the_page_asks_for_nothing(folder):
    path = write_report(folder())
    page, content = read(path), path.read_text(encoding="utf-8")
    assert all(link.startswith("#") or link == "data:," for link in page.links)
    assert not {"script", "iframe", "img", "object", "form"} & set(page.tags)
    addresses = set(re.findall(r"\w+://[^\s\"'<]*", content))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in content
    assert "@import" not in content


def test_ids_are_unique_and_links_lead_somewhere(folder):
    page = read(write_report(folder()))
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_page_suits_dark_mode_narrow_screens_and_paper(folder):
    content = write_report(folder()).read_text(encoding="utf-8")
    for rule in (
        "prefers-color-scheme: dark",
        "max-width: 46rem",
        "@media print",
        "color-scheme: light dark",
    ):
        assert rule in content
    assert 'name="viewport"' in content


def poisoned(value, poison):
    """``value`` with ``poison`` in place of every text, and as a further key of every dictionary."""
    if isinstance(value, dict):
        return {key: poisoned(item, poison) for key, item in value.items()} | {poison: poison}
    if isinstance(value, list):
        return [poisoned(item, poison) for item in value]
    return poison if isinstance(value, str) else value


@pytest.mark.parametrize(
    "poison", ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{ 7*7 }}"]
)
def test_whatever_comes_from_data_or_models_is_text(folder, poison):
    path = write_report(folder(poisoned(RECORD, poison), [{"step": 1, "loss": 1.0, poison: poison}]))
    page, content = read(path), path.read_text(encoding="utf-8")
    assert not {"script", "img"} & set(page.tags)
    assert poison in page.text
    assert poison not in content or poison == "{{ 7*7 }}"
    assert "{{ 49 }}" not in content


def test_an_override_is_marked_and_the_others_are_not(folder):
    content = write_report(folder()).read_text(encoding="utf-8")
    marked = re.findall(r'<div class="changed"><dt>(\w+)<span class="tag">command line</span>', content)
    assert marked == ["learning_rate"]


def test_secrets_in_an_old_record_are_not_shown(folder):
    run = folder()
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["hub_token"] = "topsecretvalue"
    (run / "run.json").write_text(json.dumps(record))
    assert "topsecretvalue" not in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", [[key] for key in RECORD] + [list(RECORD)[2:], list(RECORD)])
def test_missing_pieces_do_not_break_the_page(folder, missing):
    record = {key: value for key, value in RECORD.items() if key not in missing}
    assert read(write_report(folder(record, []))).headings[-1] == "Versions and machine"


@pytest.mark.parametrize(
    ("status", "notice"),
    [("running", "had not ended when the page was written"), ("interrupted", "This run was interrupted")],
)
def test_an_unfinished_run_says_so(folder, status, notice):
    text = read(write_report(folder({**RECORD, "status": status}))).text
    assert notice in text
    assert "The last logged step is 8." in text


def test_a_run_without_steps_has_no_curves(folder):
    assert "No step has been logged yet." in read(write_report(folder(RECORD, []))).text


def test_many_generations_are_folded(folder):
    many = [{**RECORD["generations"][0], "source": f"a.jsonl:{line}"} for line in range(1, 11)]
    content = write_report(folder({**RECORD, "generations": many})).read_text(encoding="utf-8")
    before, folded = content.split("<summary>4 more</summary>")
    assert "<h3>6. a.jsonl:6</h3>" in before
    assert "<h3>10. a.jsonl:10</h3>" in folded.partition("</details>")[0]


def test_nan_and_torn_lines_are_reported(folder):
    run = folder(RECORD, [*ROWS, {"step": 9, "loss": float("nan")}])
    with open(run / METRICS_FILE, "ab") as stream:
        stream.write(b'{"step": 10')
    text = read(write_report(run)).text
    assert "The training loss was not a finite number at 1 logged step, first at step 9." in text
    assert "1 line of metrics.jsonl could not be read" in text


def test_lone_surrogates_and_controls_are_written(folder):
    record = poisoned(RECORD, "a\ud800\x00\x1bb")
    assert write_report(folder(record)).stat().st_size > 0


def test_the_same_folder_gives_the_same_page(folder):
    run = folder()
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_a_folder_without_a_record_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"run\.json is missing"):
        write_report(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_no_record_however_odd_breaks_the_page(data):
    record = dict(RECORD)
    for key in data.draw(st.lists(st.sampled_from(sorted(RECORD)), max_size=3)):
        value = RECORD[key]
        if isinstance(value, dict) and data.draw(st.booleans()):
            record[key] = {**value, **{name: data.draw(JSON) for name in value}}
        elif isinstance(value, list) and data.draw(st.booleans()):
            record[key] = [{name: data.draw(JSON) for name in value[0]}]
        else:
            record[key] = data.draw(JSON)
    rows = [{"eval_loss": data.draw(JSON), "step": data.draw(JSON)}]
    Page(render_template("report.html.jinja", **report_view(record, MetricsLog(rows, 0), "runs/x")))


@pytest.mark.parametrize("command", STAGES)
def test_a_run_shows_the_section_of_its_own_stage_and_no_other(command):
    view = report_view({"command": command}, MetricsLog([], 0), "runs/x")
    parts = {stage.part for stage in STAGES.values() if stage.part}
    assert set(view) & parts == {STAGES[command].part} - {None}
    assert (view["stage"] is None) == (STAGES[command].part is None)
