"""Rewards of written answers in an evaluation: means, differences, and the rewards of each answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders

from hf_align.commands import evaluate
from hf_align.errors import UserError
from hf_align.evaluation.recipe import parse_evaluate

LENGTH = (
    "def length(prompts, completions, rows):\n    return [len(text) + len(row['output']) for text, row in "
    "zip(completions, rows)]\n"
)


def test_every_answer_is_scored_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LENGTH)
    models = [
        save_tiny_checkpoint(tmp_path / name, initializer_range=scale)
        for name, scale in (("a", 0.2), ("b", 0.3))
    ]
    rows = write_orders(tmp_path / "rows.jsonl", 4)
    recipe = {
        "models": models,
        "generation_tasks": rows,
        "reward_functions": f"{tmp_path / 'own.py'}:length",
        "max_new_tokens": 5,
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    results = evaluate.main(["--config", str(tmp_path / "recipe.yaml")])["evaluation"]["results"]
    written = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    by_model: dict[str, list[float]] = {}
    for line in written:
        expected = len(line["answer"]) + len(line["references"][0])
        assert line["rewards"] == {"length": expected}
        by_model.setdefault(line["model"], []).append(expected)
    found = results["reward"]["rows, by length"]
    assert {name: found[name]["reward"] for name in by_model} == pytest.approx(
        {name: sum(values) / 4 for name, values in by_model.items()}
    )
    first, other = by_model.values()
    assert found["b"]["difference"]["value"] == pytest.approx((sum(other) - sum(first)) / 4)


def test_rewards_without_answers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reward_functions: this has no effect without generation_tasks"):
        parse_evaluate(
            ["--model_name_or_path", "m", "--perplexity_datasets", "a.txt", "--reward_functions", "a.py:f"]
        )
    with pytest.raises(UserError, match=r"expected a Python file and the name of a function"):
        parse_evaluate(
            ["--model_name_or_path", "m", "--generation_tasks", "a.jsonl", "--reward_functions", "a.py"]
        )
