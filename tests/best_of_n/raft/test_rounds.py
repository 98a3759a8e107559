"""Rounds of sampling and fine-tuning on a tiny model: the reward rises, and interruptions change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_best_of_n
from helpers.tiny_best_of_n import arguments, lines
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders
from helpers.tiny_raft import make_inputs, options, rounds, run
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hf_align.__main__ import main as cli
from hf_align.best_of_n import answers
from hf_align.commands import dpo
from hf_align.errors import UserError
from hf_align.training.trainer import AlignTrainer

ROOT = Path(__file__).resolve().parents[3]
SHORT = {"adapter": "lora", "lora_r": 4, "num_train_epochs": 2, "num_generations": 8, "keep_best": 2}
SLOW = pytest.mark.slow
FILES = ("samples.jsonl", "best.jsonl", "rankings.jsonl", "pairs.jsonl", "held_out.jsonl")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def learned(inputs, tmp_path_factory) -> Path:
    """A run of all weights that learns something."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    # What is drawn for a row depends on the name of its file, and every run of the tests has another folder.
    named = {key: Path(inputs[key]).name for key in ("datasets", "eval_datasets")}
    with contextlib.chdir(Path(inputs["datasets"]).parent):
        run({**inputs, **named}, folder)
    return folder


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory) -> Path:
    """A short run of an adapter that was not interrupted."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(inputs, folder, **SHORT)
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    """The same answers, metrics and bits of weights."""
    for number in (1, 2):
        for name in FILES:
            ours, theirs = (path / f"round-{number}" / name for path in (folder, other))
            assert ours.read_bytes() == theirs.read_bytes(), ours
    assert (folder / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    ours, theirs = (load_file(path / "adapter_model.safetensors") for path in (folder, other))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_rounds_raise_the_reward(learned):
    start, first, second = rounds(learned)
    assert start["held_out"]["reward"] < second["held_out"]["reward"]
    low, high = second["held_out"]["change_interval"]
    assert 0 < low < second["held_out"]["change"] < high
    assert first["sampled"]["curve"][0]["reward"] < second["sampled"]["curve"][0]["reward"]
    assert first["kept"] == len(lines(learned / "round-1" / "best.jsonl")) > 8


def test_what_is_kept_is_above_the_mean_of_its_prompt(learned):
    for number in (1, 2):
        means = {
            row["source"]: sum(row["scores"]) / len(row["scores"])
            for row in lines(learned / f"round-{number}" / "samples.jsonl")
        }
        best = lines(learned / f"round-{number}" / "best.jsonl")
        assert all(row["reward"] > means[row["source"]] for row in best)
        assert max(sum(row["source"] == source for row in best) for source in means) == 4


def test_the_run_folder_holds_the_last_model(inputs, learned):
    ours, last = (load_file(path / "model.safetensors") for path in (learned, learned / "round-2" / "model"))
    start = load_file(Path(inputs["model_name_or_path"]) / "model.safetensors")
    assert all(ours[name].equal(last[name]) for name in last)
    assert not all(ours[name].equal(start[name]) for name in start)
    assert not list(learned.rglob("checkpoint-*"))
    AutoModelForCausalLM.from_pretrained(learned)
    assert cli(["chat", "--model_name_or_path", str(learned), "--help"]) == 0


def test_record_and_pages(inputs, learned):
    record = json.loads((learned / "run.json").read_text())
    assert (record["command"], record["status"]) == ("best-of-n", "completed")
    assert record["final_metrics"]["eval_reward/total"] == record["rounds"][2]["held_out"]["reward"]
    assert record["tokens_per_second"] > 0
    assert len(record["generations"]) == 12
    held_out = {row["source"]: row for row in lines(learned / "round-2" / "held_out.jsonl")}
    for entry in record["generations"]:
        assert entry["after"] == held_out[entry["source"]]["answers"][0]
        assert entry["after_reward"] == held_out[entry["source"]]["scores"][0]
    steps = [row["step"] for row in lines(learned / "metrics.jsonl")]
    assert steps == [0, 1, 2]
    page = (learned / "report.html").read_text()
    assert "Reward after each round" in page and "Best of n in each round" in page
    assert "Before, reward" in page
    card = (learned / "README.md").read_text()
    assert card.startswith("---\n") and "## Rounds" in card and "rejection sampling" in card
    copy = learned / "README.copy"
    copy.write_text(card)
    assert cli(["report", str(learned)]) == 0
    assert (learned / "README.md").read_text() == card
    copy.unlink()


def test_the_pairs_of_a_round_are_data_of_dpo(inputs, learned, tmp_path):
    recipe = {
        "model_name_or_path": inputs["model_name_or_path"],
        "datasets": str(learned / "round-1" / "pairs.jsonl"),
        "output_dir": str(tmp_path / "dpo"),
        "use_cpu": True,
        "precision": "fp32",
        "max_steps": 1,
        "num_samples": 0,
        "dataset_cache": False,
    }
    path = tmp_path / "dpo.yaml"
    path.write_text(json.dumps(recipe))
    record = dpo.main(["--config", str(path)])
    assert record["data_report"]["train_rows"] == rounds(learned)[1]["pairs"] == 8


def _interrupt_sampling(patch, number: int) -> None:
    """Ctrl-C after the second batch of answers in round ``number``."""
    append, written = answers.append_answers, []

    def appending(path, answered):
        append(path, answered)
        written.extend([path] if f"round-{number}" in str(path) else [])
        if len(written) == 2:
            raise KeyboardInterrupt

    patch.setattr(answers, "append_answers", appending)


def _interrupt_training(patch, number: int, *, kill: bool) -> None:
    """In the third step of round ``number``: a signal, after which a checkpoint is saved, or an error."""
    step = AlignTrainer.training_step

    def stepping(self, *args, **others):
        if f"round-{number}" in self.args.output_dir and self.state.global_step == 2:
            if not kill:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **others)

    patch.setattr(AlignTrainer, "training_step", stepping)


@pytest.mark.parametrize(
    ("interrupt", "checkpoint"),
    [
        pytest.param(lambda patch: _interrupt_sampling(patch, 2), False, id="sampling"),
        pytest.param(
            lambda patch: _interrupt_training(patch, 1, kill=False), False, id="training", marks=SLOW
        ),
        pytest.param(lambda patch: _interrupt_training(patch, 2, kill=True), True, id="signal", marks=SLOW),
    ],
)
def test_an_interrupted_run_goes_on_and_ends_the_same(
    inputs, finished, tmp_path, monkeypatch, capsys, interrupt, checkpoint
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt(patch)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(inputs, folder, **SHORT)
    assert "the same command goes on" in capsys.readouterr().err
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert bool(list(folder.rglob("checkpoint-*"))) == checkpoint
    first = folder / "round-1" / "samples.jsonl"
    written = first.stat().st_mtime_ns
    run(inputs, folder, **SHORT)
    assert first.stat().st_mtime_ns == written
    assert_same_run(folder, finished)


def test_every_round_draws_anew(inputs, tmp_path):
    # A model that does not move answers otherwise all the same; held-out answers can be compared.
    moves_nothing = {**SHORT, "learning_rate": 1e-30, "num_train_epochs": 1, "eval_temperature": 1.0}
    run(inputs, tmp_path / "run", **moves_nothing)
    first, second = (lines(tmp_path / "run" / f"round-{number}" / "samples.jsonl") for number in (1, 2))
    assert [each["key"] for each in first] == [each["key"] for each in second]
    alike = sum(a["answers"] == b["answers"] for a, b in zip(first, second, strict=True))
    assert alike < 0.2 * len(first)
    held_out = [path.read_bytes() for path in sorted((tmp_path / "run").rglob("held_out.jsonl"))]
    assert len(held_out) == 3 and len(set(held_out)) == 1


@pytest.mark.slow
def test_more_rounds_may_follow_and_fewer_are_refused(inputs, finished, tmp_path):
    folder = tmp_path / "run"
    run(inputs, folder, **{**SHORT, "rounds": 1})
    assert rounds(folder)[-1]["round"] == 1
    run(inputs, folder, **SHORT)
    assert_same_run(folder, finished)
    with pytest.raises(UserError, match=r"rounds: found 1, but .* has begun round 2"):
        run(inputs, folder, **{**SHORT, "rounds": 1})


@pytest.mark.slow
def test_weights_of_earlier_rounds_are_removed_on_request(inputs, finished, tmp_path):
    folder = tmp_path / "run"
    run(inputs, folder, **SHORT, save_total_limit=1)
    assert [path.parent.parent.name for path in folder.glob("round-*/model/*.safetensors")] == ["round-2"]
    assert_same_run(folder, finished)
    run(inputs, folder, **SHORT, save_total_limit=1)  # nothing is left to do
    assert_same_run(folder, finished)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"learning_rate": 1e-3}, r"learning_rate was 0\.005 and is 0\.001"),
        ({"keep_best": 1}, "keep_best was 2 and is 1"),
        ({"temperature": 0.5}, r"temperature was 1\.0 and is 0\.5"),
        ({"datasets": "fewer"}, "the prompts have changed"),
        ({"eval_datasets": "fewer"}, "the held-out prompts have changed"),
        ({"per_device_train_batch_size": 2}, "rows of an optimizer step was 4 and is 2"),
    ],
)
def test_a_run_of_another_recipe_is_not_gone_on_with(inputs, finished, changed, words, tmp_path):
    for key in ("datasets", "eval_datasets"):
        if key in changed:
            changed = {key: write_orders(tmp_path / "other.jsonl", 3, start=90)}
    before = (finished / "run.json").read_bytes()
    with pytest.raises(UserError, match=words):
        run(
            {**inputs, **{k: v for k, v in changed.items() if "datasets" in k}},
            finished,
            **{**SHORT, **changed},
        )
    assert (finished / "run.json").read_bytes() == before


def test_runs_with_and_without_training_are_told_apart(inputs, finished, tmp_path):
    without = {key: value for key, value in inputs.items() if key != "eval_datasets"}
    with pytest.raises(UserError, match="train was True and is False"):
        tiny_best_of_n.run(without, finished, num_generations=8)
    tiny_best_of_n.run(without, tmp_path / "run")
    with pytest.raises(UserError, match="train was False and is True"):
        run(inputs, tmp_path / "run")


def test_another_model_at_the_same_place_is_noticed(inputs, tmp_path, monkeypatch):
    place = tmp_path / "model"
    shutil.copytree(inputs["model_name_or_path"], place)
    mine = {**inputs, "model_name_or_path": str(place)}
    with monkeypatch.context() as patch:
        _interrupt_sampling(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(mine, tmp_path / "run", **SHORT)
    save_tiny_checkpoint(place, initializer_range=0.3)
    with pytest.raises(UserError, match="has other weights than it had"):
        run(mine, tmp_path / "run", **SHORT)


def test_nothing_to_learn_from_is_an_error(inputs, tmp_path):
    with pytest.raises(UserError, match=r"round 1: no answer can be learned from.*min_reward is 2"):
        run(inputs, tmp_path / "run", **SHORT, min_reward=2.0)
    assert not (tmp_path / "run" / "round-1" / "model").exists()


@pytest.mark.slow
def test_held_out_prompts_are_optional_and_can_be_split_off(inputs, tmp_path):
    alone = {key: value for key, value in inputs.items() if key != "eval_datasets"}
    short = {**SHORT, "rounds": 1, "num_train_epochs": 1}
    run(alone, tmp_path / "none", **short)
    assert [entry["held_out"] for entry in rounds(tmp_path / "none")] == [None, None]
    run(alone, tmp_path / "split", **short, eval_split_size=2)
    assert rounds(tmp_path / "split")[1]["held_out"]["prompts"] == 2
    assert rounds(tmp_path / "split")[1]["sampled"]["prompts"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_two_processes_write_what_one_does(inputs, tmp_path, train):
    given = inputs if train else {key: value for key, value in inputs.items() if key != "eval_datasets"}
    keys = {**options(**SHORT), "rounds": 1} if train else {}
    tiny_best_of_n.run(given, tmp_path / "one", **keys)
    halved = {**keys, "per_device_train_batch_size": 2} if train else keys
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
            *("-m", "hf_align", "best-of-n", *arguments(given, tmp_path / "two", **halved)),
        ],
        env={**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = ["samples.jsonl", "best.jsonl", "rankings.jsonl", "pairs.jsonl"]
    part = "round-1" if train else "."
    for name in names:
        assert (tmp_path / "two" / part / name).read_bytes() == (tmp_path / "one" / part / name).read_bytes()
    if train:
        ours, theirs = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("one", "two"))
        for name in ours:
            assert ours[name].sub(theirs[name]).abs().max() < 1e-4
