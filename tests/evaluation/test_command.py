"""The evaluate command end to end on tiny models: metrics side by side, files, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_adapters import save_adapter
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders
from helpers.tiny_evaluation import save_tiny_reward_model
from helpers.tiny_rewards import write_pairs

from hf_align.__main__ import main as cli
from hf_align.commands import evaluate
from hf_align.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    base = save_tiny_checkpoint(folder / "base", max_position_embeddings=512, initializer_range=0.2)
    return {
        "models": [base, save_adapter(folder / "adapter", base, scale=0.3)],
        "perplexity_datasets": [write_orders(folder / "orders.jsonl", 6)],
        "choice_tasks": [
            {
                "path": str(ROOT / "data/evaluation/mmlu/test"),
                "dev_path": str(ROOT / "data/evaluation/mmlu/dev"),
                "name": "mmlu",
                "max_rows": 3,
            },
            {"path": str(ROOT / "data/evaluation/endings"), "max_rows": 5},
        ],
        "num_fewshot": 1,
        "use_cpu": True,
    }


def run(inputs: dict[str, Any], output_dir: Path, **options: Any) -> dict[str, Any]:
    path = output_dir.parent / f"{output_dir.name}.yaml"
    path.write_text(json.dumps({**inputs, "output_dir": str(output_dir), **options}))
    return evaluate.main(["--config", str(path)])


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(inputs, folder)
    return folder


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def test_every_model_has_every_metric(finished):
    found = metrics(finished)
    assert [(model["name"], model["layout"]) for model in found["models"]] == [
        ("base", "shared prompts"),
        ("adapter", "shared prompts"),
    ]
    assert {kind: list(tasks) for kind, tasks in found["results"].items()} == {
        "perplexity": ["orders"],
        "multiple_choice": ["mmlu", "endings"],
    }
    for tasks in found["results"].values():
        for by_model in tasks.values():
            assert list(by_model) == ["base", "adapter"]
            assert "difference" not in by_model["base"]
            assert len(by_model["adapter"]["difference"]["interval"]) == 2
    orders = found["results"]["perplexity"]["orders"]
    change = orders["adapter"]["bits_per_byte"] - orders["base"]["bits_per_byte"]
    assert orders["adapter"]["difference"]["value"] == pytest.approx(change) and abs(change) > 1e-3
    mmlu = found["results"]["multiple_choice"]["mmlu"]["base"]
    assert (mmlu["questions"], list(mmlu["subjects"]), mmlu["chance"]) == (
        9,
        ["dates", "numbers", "words"],
        0.25,
    )
    assert mmlu["shots"] == 1


def test_the_pages_and_the_record(finished):
    record = json.loads((finished / "run.json").read_text())
    assert (record["command"], record["status"]) == ("evaluate", "completed")
    assert record["evaluation"] == metrics(finished)
    page = (finished / "report.html").read_text()
    for words in ("bits per byte", "endings: accuracy", "By subject", "base and adapter", "<svg"):
        assert words in page
    assert "redacted" not in page
    assert cli(["report", str(finished)]) == 0


def _numbers(value: Any, path: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _numbers(item, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in _numbers(item, f"{path}/{i}").items()}
    return {path: float(value)} if isinstance(value, int | float) else {}


@pytest.mark.parametrize("options", [{"max_tokens_per_batch": 64}, {"packing": False}])
def test_batches_and_padding_change_no_metric(inputs, finished, tmp_path, options):
    run(inputs, tmp_path / "run", **options)
    expected = _numbers(metrics(finished)["results"])
    assert _numbers(metrics(tmp_path / "run")["results"]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_table_in_the_terminal(inputs, tmp_path, capsys):
    models = inputs["models"]
    arguments = ["--model_name_or_path", models[0], f"--model_name_or_path={models[1]}"]
    arguments += ["--perplexity_datasets", inputs["perplexity_datasets"][0], "--use_cpu"]
    assert cli(["evaluate", *arguments, "--output_dir", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["base", "adapter"]
    assert lines[2].startswith("orders  bits per byte")
    assert "difference" in lines[5] and "[" in lines[5]
    assert list(metrics(tmp_path / "run")["results"]["perplexity"]["orders"]) == ["base", "adapter"]


@pytest.fixture(scope="module")
def judging(inputs, tmp_path_factory) -> dict[str, Any]:
    """Answers of both models, compared by a reward model, which is itself measured on pairs."""
    folder = tmp_path_factory.mktemp("judging")
    reward = save_tiny_reward_model(folder / "reward")
    asked = {
        "path": write_orders(folder / "asked.jsonl", 4),
        "metrics": ["exact_match", "f1"],
        "checks": {"max_words": 3, "valid_json": True},
    }
    return {
        "use_cpu": True,
        "models": [*inputs["models"], reward],
        "generation_tasks": [asked],
        "max_new_tokens": 8,
        "preference_datasets": [write_pairs(folder / "pairs.jsonl", 5)],
        "judge_reward_model": reward,
    }


@pytest.fixture(scope="module")
def judged(judging, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "run"
    run(judging, folder)
    return folder


def test_answers_preferences_and_win_rates(judged):
    results = metrics(judged)["results"]
    asked = results["generation"]["asked"]
    assert list(asked) == ["base", "adapter"] and asked["base"]["rows"] == 4
    assert set(asked["base"]["checks"]) == {"max_words", "valid_json"}
    pairs = results["preferences"]["pairs"]
    assert list(pairs) == ["base", "adapter", "reward"]
    assert "mean_reward" in pairs["reward"] and "accuracy_by_sums" in pairs["base"]
    (name, wins), *_ = results["win_rate"].items()
    assert name == "asked, by reward" and list(wins) == ["adapter"]
    found = wins["adapter"]
    assert found["wins"] + found["ties"] + found["losses"] == pytest.approx(1)
    rows = [json.loads(line) for line in (judged / "answers.jsonl").read_text().splitlines()]
    assert [(row["model"], row["task"]) for row in rows] == [("base", "asked")] * 4 + [
        ("adapter", "asked")
    ] * 4


def test_batches_and_padding_change_no_answer_reward_or_win_rate(judging, judged, tmp_path):
    run(
        {**judging, "max_tokens_per_batch": 64, "packing": False, "generation_batch_size": 1},
        tmp_path / "run",
    )
    expected = _numbers(metrics(judged)["results"])
    assert _numbers(metrics(tmp_path / "run")["results"]) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert (tmp_path / "run" / "answers.jsonl").read_bytes() == (judged / "answers.jsonl").read_bytes()


def test_the_page_shows_answers_and_who_won(judged):
    page = (judged / "report.html").read_text()
    for words in (
        "Win rate",
        "asked, by reward",
        "exact match",
        "checks passed",
        "answers.jsonl",
        "mean reward",
    ):
        assert words in page


def test_one_model_has_no_difference(inputs, tmp_path, capsys):
    run({**inputs, "models": inputs["models"][:1], "choice_tasks": []}, tmp_path / "run")
    assert "difference" not in capsys.readouterr().out
    assert metrics(tmp_path / "run")["results"]["perplexity"]["orders"]["base"]["documents"] == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_name_or_path": "x"}, "found both; expected one model"),
        ({"models": []}, "found neither; expected one model"),
        ({"perplexity_datasets": [], "choice_tasks": []}, "there is nothing to measure"),
        ({"stride": 9, "max_length": 9}, "found a stride of 9 with windows of 9 tokens"),
        ({"models": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]}, "two models are called 'x'"),
        ({"choice_tasks": ["a/x.csv", "b/x.csv"]}, "two entries are called 'x'"),
        ({"choice_tasks": ["nowhere.csv"]}, r"nowhere\.csv: there is no such file or folder"),
        ({"generation_tasks": [{"path": "x", "num_samples": 3}]}, "x asks for 3 samples, .* temperature 0"),
        ({"generation_tasks": [{"path": "x", "num_fewshot": 3}]}, "each of the two needs the other"),
        ({"judge_url": "http://x/v1"}, "each of the two needs the other"),
        ({"judge_url": "x", "judge_model": "y"}, "begins with http"),
        ({"judge_reward_model": "x"}, "no effect without generation_tasks and two models"),
        ({"models": ["./nowhere/model"]}, "the folder './nowhere/model' does not exist"),
    ],
)
def test_mistakes_are_named(inputs, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        run(inputs, tmp_path / "run", **options)


def test_models_are_told_apart_by_as_much_of_their_path_as_it_takes(inputs):
    from hf_align.evaluation.recipe import ModelsConfig

    assert ModelsConfig(models=["runs/a/model", "runs/b/model", "c"]).names == ["a/model", "b/model", "c"]
    assert ModelsConfig(model_name_or_path="runs/a").names == ["a"]


def test_help_lists_the_keys(capsys):
    with pytest.raises(SystemExit) as stop:
        cli(["evaluate", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--choice_tasks LIST" in text and "Entries of models" in text


@pytest.mark.parametrize(
    "options",
    [
        {"generation_tasks": ["nowhere.jsonl"]},
        {"perplexity_datasets": ["nowhere.jsonl"]},
        {"models": ["./nowhere"]},
        {"reward_model": "./nowhere", "generation_tasks": ["orders"]},
    ],
)
def test_earlier_results_stay_where_they_are_when_a_path_leads_nowhere(inputs, tmp_path, options):
    earlier = tmp_path / "run"
    earlier.mkdir()
    (earlier / "run.json").write_text('{"command": "evaluate"}')
    if options.get("generation_tasks") == ["orders"]:
        options = {**options, "generation_tasks": inputs["perplexity_datasets"]}
    with pytest.raises(UserError, match="nowhere"):
        run(inputs, earlier, **options)
    assert (earlier / "run.json").read_text() == '{"command": "evaluate"}'
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["run"]
