"""The page and the card of a pipeline: measures by stage, what changed, stages with links."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hf_align.pipeline.record import collect
from hf_align.pipeline.report import pipeline_view, summary_lines, verdict
from hf_align.reporting.html import write_report
from hf_align.reporting.model_card import write_model_card

REWARDS = {"base": [0.05] * 3, "sft": [0.5, 0.52, 0.54], "dpo": [0.7, 0.75, 0.74], "ppo": [0.5, 0.58, 0.51]}


LOWER = {"word_perplexity": False, "bits_per_byte": False}
"""What lm-eval says of its metrics: less is better."""


def evaluation(seed: int) -> dict[str, Any]:
    """One seed: sft is the first model, base a model that no seed touches."""
    reward = {
        name: {
            "rows": 8,
            "reward": values[seed],
            "difference": {"value": values[seed] - REWARDS["sft"][seed]},
        }
        for name, values in REWARDS.items()
    }
    del reward["sft"]["difference"]
    written = {
        name: {"rows": 8, "f1": 0.25, "checks_passed": 0.5, "stopped": 1.0, "tokens": 9} for name in REWARDS
    }
    order = ("sft", "base", "dpo", "ppo")
    return {
        "models": [{"name": name, "path": f"out/{name}-seed{seed}"} for name in order],
        "results": {
            "perplexity": {"docs": {name: {"documents": 2, "bits_per_byte": 2.5} for name in order}},
            "lm_eval": {
                "tiny_arc": {
                    name: {
                        "documents": 5,
                        "acc_norm": 0.2 + 0.2 * seed,
                        "acc": 0.4,
                        "metrics": {"acc_norm": True},
                    }
                    for name in order
                },
                "wiki": {
                    name: {"word_perplexity": 50 - 10 * (name == "dpo") + seed % 2, "metrics": LOWER}
                    for name in order
                },
            },
            "generation": {"notes": {name: written[name] for name in order}},
            # The judge is a model of the same seed.
            "reward": {f"notes, by house-seed{seed}": {name: reward[name] for name in order}},
        },
    }


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    stages = ("base", "sft", "house", "dpo", "ppo", "evaluate")
    names = {stage: [f"{stage}-seed{seed}" for seed in range(3)] for stage in stages} | {"base": ["base"]}
    steps = [
        {
            "name": name,
            "stage": stage,
            "command": {"base": "pretrain", "evaluate": "evaluate"}.get(stage, stage),
            "seed": None if stage == "base" else number,
            "output_dir": f"{tmp_path}/{name}",
            "status": "completed",
            "seconds": 61,
        }
        for stage in stages
        for number, name in enumerate(names[stage])
    ]
    for step in steps:
        own: dict[str, Any] = {"command": step["command"], "status": "completed", "peak_memory_bytes": 2**30}
        if step["stage"] == "evaluate":
            found = evaluation(int(step["seed"]))
            for model in found["models"]:
                model["path"] = "base" if model["name"] == "base" else model["path"]
            prompt = {"task": "notes", "source": "r:1", "prompt": "How <much>?", "reference": "5"}
            own |= {
                "evaluation": found,
                "evaluation_answers": [prompt | {"answers": {"sft": "4", "dpo": "5"}}],
            }
        folder = Path(str(step["output_dir"]))
        folder.mkdir()
        if step["stage"] == "evaluate":
            answers = [
                {"task": "notes", "model": name, "rewards": {f"house-seed{step['seed']}": gain + row % 2}}
                for name, gain in (("sft", 0.0), ("dpo", 0.25))
                for row in range(4)
            ]
            (folder / "answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in answers))
        (folder / "run.json").write_text(json.dumps(own))
    return {
        "command": "pipeline",
        "status": "completed",
        "recipe_path": "recipes/pipeline/quickstart.yaml",
        "recipe": {"output_dir": str(tmp_path), "seeds": [0, 1, 2]},
        "steps": steps,
        "wall_time_seconds": 793.0,
        "pipeline": collect(steps, seed=0),
    }


def test_measures_stand_in_the_order_of_the_stages(record: dict[str, Any]) -> None:
    (found,) = (pipeline_view(record) or {})["evaluations"]
    assert found["columns"] == ["measure", "base", "sft", "dpo", "ppo"]
    rows = {row["name"]: row["cells"] for row in found["rows"]}
    assert list(rows) == [
        "notes, by house: mean reward",
        "docs: bits per byte",
        "tiny_arc: acc_norm",
        "wiki: word_perplexity",
        "notes: F1",
        "notes: checks passed",
        "notes: stopped by itself",
    ]
    # 0.4 +- 4.303 * 0.2 / sqrt(3) reaches below 0.
    assert rows["tiny_arc: acc_norm"] == ["40.0 % [0.0, 89.7]"] * 4
    assert rows["wiki: word_perplexity"][1] == "50.3 [48.9, 51.8]"
    # 0.73 +- 4.303 * 0.02646 / sqrt(3); the base is the same for every seed.
    assert rows["notes, by house: mean reward"][::2] == ["0.05", "0.73 [0.664, 0.796]"]
    assert rows["docs: bits per byte"] == ["2.5"] * 4 and rows["notes: F1"] == ["25.0 %"] * 4


def test_changes_say_what_is_clear(record: dict[str, Any]) -> None:
    (found,) = (pipeline_view(record) or {})["evaluations"]
    rewards = [row for row in found["changes"] if row["cells"][0].startswith("notes, by house")]
    words = {row["name"]: (row["cells"][1], row["cells"][-1]) for row in rewards}
    # dpo: 0.2, 0.23, 0.2; ppo: 0, 0.06, -0.03, whose interval holds zero.
    assert words == {
        "base": ("-0.47", "worse"),
        "dpo": ("+0.21", "better"),
        "ppo": ("+0.01", "no clear change"),
    }
    # What a task of lm-eval says is better counts there.
    changed = {row["name"]: row["cells"] for row in found["changes"] if row["cells"][0].startswith("wiki")}
    assert changed["dpo"][1] == "-10" and changed["ppo"][1] == "+0"
    # Every prompt has gained the same by the answers of each seed, so that drawing prompts changes nothing.
    prompts = {row["name"]: row["cells"][3] for row in rewards}
    assert prompts == {"base": "", "dpo": "[+0.25, +0.25]", "ppo": ""}
    lines = summary_lines(record)
    assert "dpo against sft, notes, by house: mean reward: +0.21 [+0.167, +0.253] better" in lines


@pytest.mark.parametrize(
    ("difference", "higher", "word"),
    [
        ({"interval": [0.1, 0.2]}, True, "better"),
        ({"interval": [0.1, 0.2]}, False, "worse"),
        ({"interval": [-0.2, -0.1]}, False, "better"),
        ({"interval": [-0.1, 0.1], "over_prompts": [0.1, 0.2]}, True, "no clear change"),
        ({"interval": None, "over_prompts": [0.1, 0.2]}, True, "better"),
        ({"interval": None}, True, ""),
    ],
)
def test_a_verdict_needs_an_interval_beside_zero(difference: dict[str, Any], higher: bool, word: str) -> None:
    assert verdict(difference, higher=higher) == word


def test_pages_are_made_from_the_record_alone(record: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<h1>quickstart: base to evaluate</h1>" in page
    assert page.count('href="dpo-seed1/report.html"') == 1
    # Measures that are the same for all models are not drawn.
    assert "How &lt;much&gt;?" in page and page.count("<svg") == 2
    assert "dpo over sft, notes, by house" in page and "16 of 16" in page
    assert "Curves" not in page and not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    card = write_model_card(folder).read_text(encoding="utf-8")
    assert "| dpo | notes, by house: mean reward | +0.21 |" in card and "hf-align pipeline --config" in card


def test_answers_with_other_line_ends_are_read(record: dict[str, Any], tmp_path: Path) -> None:
    """JSON keeps U+2028 and U+0085 as they are; they end no row."""
    found = []
    for text in ("one", "one\u2028two\u0085three"):
        for number in range(3):
            path = tmp_path / f"evaluate-seed{number}" / "answers.jsonl"
            rows = [json.loads(line) | {"answer": text} for line in path.read_text().split("\n") if line]
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        found.append(collect(record["steps"], seed=0))
    assert found[0] == found[1] == record["pipeline"]


def test_a_pipeline_that_has_just_begun(tmp_path: Path) -> None:
    step = {
        "name": "sft",
        "stage": "sft",
        "command": "sft",
        "output_dir": str(tmp_path / "sft"),
        "seed": None,
    }
    record = {"command": "pipeline", "status": "running", "steps": [step], "pipeline": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "waiting" in page and "0 of 1" in page
    assert collect([step], seed=0) == {
        "steps": {"sft": {"status": None, "seconds": None, "peak_memory_bytes": None, "facts": []}},
        "evaluations": [],
    }
