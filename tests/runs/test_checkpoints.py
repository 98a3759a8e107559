"""Which checkpoints count as complete, and what happens to the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hf_align.errors import UserError
from hf_align.runs import checkpoints


def make(folder: Path, step: int, *, processes: int = 1, best: int | None = None) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    save_file({"a": torch.ones(7), "b": torch.zeros(3, 2)}, checkpoint / "model.safetensors")
    names = ["rng_state.pth"] if processes == 1 else [f"rng_state_{r}.pth" for r in range(processes)]
    for name in ["optimizer.pt", "scheduler.pt", *names]:
        torch.save({"state": torch.ones(5)}, checkpoint / name)
    identity = {"recipe": {}, "data": "d", "processes": processes, "rows_per_step": 4}
    state = {
        "global_step": step,
        "best_global_step": best,
        "stateful_callbacks": {"RunIdentity": {"args": {}, "attributes": {"identity": identity}}},
    }
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    return checkpoint


def cut(path: Path, keep: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


@pytest.mark.parametrize("processes", [1, 3])
def test_a_whole_checkpoint_is_complete(tmp_path: Path, processes: int) -> None:
    assert checkpoints.what_is_missing(make(tmp_path, 3, processes=processes)) == ""


@pytest.mark.parametrize(
    "name",
    [
        "trainer_state.json",
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "rng_state_2.pth",
    ],
)
@pytest.mark.parametrize("harm", ["missing", "cut", "empty"])
def test_every_file_counts_and_must_be_whole(tmp_path: Path, name: str, harm: str) -> None:
    path = make(tmp_path, 3, processes=3) / name
    if harm == "missing":
        path.unlink()
    else:
        cut(path, 0.6 if harm == "cut" else 0.0)
    assert name.split(".")[0] in checkpoints.what_is_missing(path.parent).replace("no weights (", "")
    assert checkpoints.newest_complete(tmp_path) is None


def test_one_byte_too_few_or_too_many_of_the_weights_is_found(tmp_path: Path) -> None:
    path = make(tmp_path, 3) / "model.safetensors"
    content = path.read_bytes()
    for wrong in (content[:-1], content + b"\0"):
        path.write_bytes(wrong)
        assert checkpoints.what_is_missing(path.parent) == "model.safetensors is cut off"


def test_every_shard_of_an_index_is_needed(tmp_path: Path) -> None:
    checkpoint = make(tmp_path, 3)
    for name in ("one", "two"):
        (checkpoint / f"{name}.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    (checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert checkpoints.what_is_missing(checkpoint) == ""
    (checkpoint / "two.safetensors").unlink()
    assert checkpoints.what_is_missing(checkpoint) == "two.safetensors is missing"


def test_parts_of_several_processes_are_complete_with_what_is_written_last(tmp_path: Path) -> None:
    fsdp = make(tmp_path, 3, processes=2)
    (fsdp / "model.safetensors").unlink()
    (fsdp / "optimizer.pt").unlink()
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        (fsdp / name).mkdir()
        (fsdp / name / ".metadata").touch()
    assert checkpoints.what_is_missing(fsdp) == ""
    (fsdp / "optimizer_0" / ".metadata").unlink()
    assert checkpoints.what_is_missing(fsdp) == "optimizer_0 is not whole"
    deepspeed = make(tmp_path, 4, processes=2)
    for name in ("optimizer.pt", "scheduler.pt"):
        (deepspeed / name).unlink()
    (deepspeed / "latest").write_text("global_step4")
    (deepspeed / "global_step4").mkdir()
    assert "DeepSpeed" in checkpoints.what_is_missing(deepspeed)
    (deepspeed / "global_step4" / "zero_pp_rank_0_mp_rank_00_optim_states.pt").touch()
    assert checkpoints.what_is_missing(deepspeed) == ""


def test_half_written_ones_are_reported_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, 4)
    for _ in range(2):
        (make(tmp_path, 12) / "optimizer.pt").unlink()
        checkpoints.set_aside_incomplete(tmp_path)
    assert checkpoints.newest_complete(tmp_path) == tmp_path / "checkpoint-4"
    names = {folder.name for folder in tmp_path.iterdir()}
    assert names == {"checkpoint-4", "incomplete-checkpoint-12", "incomplete-checkpoint-12.2"}
    assert "optimizer.pt" in caplog.text
    assert "incomplete-checkpoint-12.2" in caplog.text
    from transformers.trainer_utils import get_last_checkpoint

    assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-4"), "nor does Trainer find them"


def keeper(limit: int | None, **options: Any) -> checkpoints.CheckpointKeeper:
    return checkpoints.CheckpointKeeper(limit, **{"keep_best": False, **options})


def save(tmp_path: Path, callback: checkpoints.CheckpointKeeper, step: int, best: int | None = None) -> None:
    state = SimpleNamespace(
        global_step=step, is_local_process_zero=True, is_world_process_zero=True, best_global_step=best
    )
    callback.on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)


def steps(tmp_path: Path) -> list[int]:
    return [checkpoints.step_of(folder) for folder in checkpoints.all_checkpoints(tmp_path)]


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [(None, None, [2, 4, 6, 10]), (2, None, [6, 10]), (1, None, [10]), (2, 4, [4, 10]), (1, 4, [4, 10])],
)
def test_older_ones_are_removed_but_never_the_newest_or_the_best(
    tmp_path: Path, limit: int | None, best: int | None, left: list[int]
) -> None:
    for step in (2, 4, 6, 10):
        make(tmp_path, step)
    save(tmp_path, keeper(limit, keep_best=best is not None), 10, best)
    assert steps(tmp_path) == left
    assert not list(tmp_path.glob("deleted-*"))


def test_nothing_is_removed_for_a_checkpoint_that_is_not_whole(tmp_path: Path) -> None:
    for step in (2, 4):
        make(tmp_path, step)
    (make(tmp_path, 6) / "rng_state.pth").unlink()
    with pytest.raises(UserError, match=r"checkpoint-6 was saved but is not complete: rng_state\.pth"):
        save(tmp_path, keeper(1), 6)
    assert steps(tmp_path) == [2, 4, 6]


def test_a_removal_that_was_cut_short_is_finished_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: None)
        checkpoints.delete(tmp_path / "checkpoint-2")
    assert [path.name for path in tmp_path.iterdir()] == ["deleted-checkpoint-2"]
    assert checkpoints.newest_complete(tmp_path) is None
    checkpoints.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_new_one_is_on_the_disk_before_an_older_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 2), make(tmp_path, 4)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    events: list[str] = []
    monkeypatch.setattr(checkpoints, "flush_file", lambda path: events.append(path.name))
    monkeypatch.setattr(checkpoints, "delete", lambda folder: events.append(f"delete {folder.name}"))
    save(tmp_path, keeper(1, also_flush=(tmp_path / "metrics.jsonl",)), 4)
    assert events[-1] == "delete checkpoint-2"
    assert {"metrics.jsonl", "model.safetensors", "trainer_state.json", "checkpoint-4"} <= set(events)
