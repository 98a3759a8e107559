"""The mean of weights along a run, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_align.errors import UserError
from hf_align.pretraining.averaging import load_weights, set_mean


class Tied(torch.nn.Module):
    """Two names for one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 2, bias=False)
        self.second = torch.nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight


def test_a_mean_counts_shared_weights_once(tmp_path: Path) -> None:
    model = Tied()
    with torch.no_grad():
        model.first.weight.fill_(3.0)
    for number, name in ((1, "first.weight"), (2, "second.weight")):
        (tmp_path / str(number)).mkdir()
        save_file({name: torch.full((2, 2), float(number))}, tmp_path / str(number) / "model.safetensors")
    set_mean(model, [tmp_path / "1", tmp_path / "2"])
    assert (
        torch.equal(model.first.weight, torch.full((2, 2), 2.0)) and model.second.weight is model.first.weight
    )


def test_files_that_lack_a_weight(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "a.safetensors")
    save_file({"more": torch.ones(1)}, tmp_path / "b.safetensors")
    assert set(load_weights(tmp_path)) == {"other", "more"}
    with pytest.raises(UserError, match=r"the weights of first\.weight are missing"):
        set_mean(Tied(), [tmp_path])
