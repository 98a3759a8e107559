"""What has changed in a checkpoint since it was saved is found, and nothing in it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_align.errors import UserError
from hf_align.runs.checkpoint_digests import DIGESTS_FILE, load_plain, what_is_damaged, write_digests


def make(folder: Path) -> Path:
    (folder / "optimizer_0").mkdir(parents=True)
    (folder / "optimizer_0" / "__0_0.distcp").write_bytes(b"part")
    (folder / "model.safetensors").write_bytes(b"weights" * 99)
    torch.save({"state": torch.ones(50)}, folder / "optimizer.pt")
    write_digests(folder)
    return folder


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "optimizer_0/__0_0.distcp"])
def test_a_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "checkpoint-1")
    assert what_is_damaged(folder) == ""
    flip(folder / name)
    assert what_is_damaged(folder) == f"{name} is not as it was saved"


def test_files_that_are_gone_are_counted_and_new_ones_do_not_matter(tmp_path: Path) -> None:
    folder = make(tmp_path / "checkpoint-1")
    (folder / "notes.txt").write_text("mine")
    assert what_is_damaged(folder) == ""
    for name in ("model.safetensors", "optimizer.pt"):
        (folder / name).unlink()
    assert what_is_damaged(folder) == "model.safetensors and 1 more is not as it was saved"
    (folder / DIGESTS_FILE).write_text("{")
    assert what_is_damaged(folder) == "digests.json is broken"


class Program:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("with_digests", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, with_digests: bool) -> None:
    folder = make(tmp_path / "checkpoint-1")
    (folder / DIGESTS_FILE).unlink()
    torch.save({"state": Program(tmp_path / "ran")}, folder / "scheduler.pt")
    if with_digests:
        write_digests(folder)
    assert what_is_damaged(folder).startswith("scheduler.pt holds something else than tensors and plain val")
    with pytest.raises(UserError, match="holds something else than tensors"):
        load_plain(folder / "scheduler.pt")
    assert not (tmp_path / "ran").exists()


def test_the_state_of_a_trainer_is_plain(tmp_path: Path) -> None:
    import random

    import numpy as np

    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    torch.save(states, tmp_path / "rng_state.pth")
    assert set(load_plain(tmp_path / "rng_state.pth")) == set(states)
