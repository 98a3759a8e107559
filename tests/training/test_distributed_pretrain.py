"""Two processes on a CPU pre-train exactly as one does, from files and from a stream."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_pretraining import make_inputs, recipe, run
from helpers.tiny_runs import merged_metrics, same_weights, steps, weights
from transformers import AutoTokenizer

from hf_align.config import DatasetConfig
from hf_align.pretraining.collators import make_collator
from hf_align.pretraining.data import prepare_pretraining
from hf_align.pretraining.recipe import PretrainDataConfig
from hf_align.training.streaming import RankStream

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# A budget of about one block: the processes need different numbers of micro-batches. Plain gradient steps:
# Adam would blow up rounding.
COMMON: dict[str, Any] = {
    "max_tokens_per_batch": 60,
    "learning_rate": 0.3,
    "optim": "sgd",
    "eval_strategy": "steps",
    "eval_steps": 4,
}
STREAM = {"streaming": True, "shuffle_buffer_size": 7, "max_steps": 9}


def in_two_processes(inputs: dict[str, Any], folder: Path, architecture: str, **options: Any) -> str:
    """Run the command under torchrun; a step has as many rows as in one process."""
    keys = recipe(inputs, folder, architecture, **options, per_device_train_batch_size=2)
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(json.dumps(keys), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "hf_align", "pretrain", "--config", str(path)],
        env={**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), train=15)


def assert_close(ours: Path, theirs: Path) -> None:
    """Weights, logged metrics and metrics by data set are the same but for rounding."""
    one, other = weights(theirs), weights(ours)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=2e-6, msg=name)
    for line, same in zip(merged_metrics(theirs), merged_metrics(ours), strict=True):
        assert line.keys() == same.keys()
        assert same == pytest.approx(line, rel=2e-4, abs=1e-5)
    records = [json.loads((folder / "run.json").read_text())["pretraining"] for folder in (theirs, ours)]
    for when in ("before", "after"):
        for source, again in zip(records[0][when], records[1][when], strict=True):
            assert source["name"] == again["name"]
            numbers = {key: value for key, value in source.items() if key != "name"}
            assert {key: again[key] for key in numbers} == pytest.approx(numbers, rel=2e-4, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "objective"), [("bert", "mlm_nsp"), ("t5", "span_corruption"), ("gpt2", "causal")]
)
def test_two_processes_equal_one(
    inputs: dict[str, Any], tmp_path: Path, architecture: str, objective: str
) -> None:
    # The last step of each epoch is ragged, so that one of the processes may have no row in it.
    options = {**COMMON, "objective": objective, "max_steps": None, "num_train_epochs": 2}
    run(inputs, tmp_path / "one", architecture, **options)
    output = in_two_processes(inputs, tmp_path / "two", architecture, **options)
    assert output.count("15 training rows") == 1 and output.count("report: ") == 1
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_a_stream_on_two_processes_trains_what_one_does_and_is_resumed_to_the_same_bits(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    options = {**COMMON, **STREAM, "save_strategy": "steps", "save_steps": 5, "save_total_limit": None}
    run(inputs, tmp_path / "one", "t5", **options)
    in_two_processes(inputs, tmp_path / "two", "t5", **options)
    assert_close(tmp_path / "two", tmp_path / "one")
    part = Path(shutil.copytree(tmp_path / "two", tmp_path / "part"))
    assert steps(part) == [5, 9]
    shutil.rmtree(part / "checkpoint-9")
    in_two_processes(inputs, part, "t5", **options, resume_from_checkpoint="auto")
    assert same_weights(part, tmp_path / "two")
    assert merged_metrics(part) == merged_metrics(tmp_path / "two")


@pytest.mark.parametrize(("architecture", "objective"), [("gpt2", "causal"), ("t5", "span_corruption")])
def test_the_ranks_of_a_stream_share_every_token_of_every_document_once(
    inputs: dict[str, Any], tmp_path: Path, architecture: str, objective: str
) -> None:
    keys = recipe(inputs, tmp_path / "run", architecture)
    tokenizer = AutoTokenizer.from_pretrained(keys["tokenizer_name_or_path"])
    data = PretrainDataConfig(
        datasets=[DatasetConfig(keys["datasets"])], streaming=True, shuffle_buffer_size=5, block_length=48
    )
    collator = make_collator(objective, tokenizer)

    def share(rank: int, world_size: int, rows: int | None) -> list[Any]:
        prepared = prepare_pretraining(data, tokenizer, collator, objective, seed=3)
        if rows is None:
            return list(prepared.train)
        return list(islice(RankStream(prepared.train, rank=rank, world_size=world_size), rows))

    epoch = share(0, 1, None)
    half = -(-len(epoch) // 2)
    ranks = [share(rank, 2, half) for rank in (0, 1)]
    # Rank 0 takes the first of every two; the last of rank 1 may be the next epoch's first.
    mixed = [row for pair in zip(*ranks, strict=True) for row in pair][: len(epoch)]
    numbers = [int(row.example["index"]) for row in mixed]
    assert sorted(numbers) == list(range(len(epoch)))
    separator = tokenizer.eos_token_id if objective == "causal" else None
    line = np.concatenate(
        [row.example["input_ids"] for row in sorted(mixed, key=lambda r: r.example["index"])]
    )
    texts = [json.loads(row)["text"] for row in Path(keys["datasets"]).read_text().splitlines()]
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    if separator is not None:
        ids = [[*one, separator] for one in ids]
        ends = np.flatnonzero(line == separator) + 1
        assert ends[-1] == len(line)
        assert sorted(map(tuple, np.split(line, ends[:-1]))) == sorted(map(tuple, ids))
    assert sorted(line.tolist()) == sorted(token for one in ids for token in one)
