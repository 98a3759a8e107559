"""NEFTune in a run: the noise of the paper, once. transformers' Trainer has a noise of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_runs

from hf_align.training.trainer import AlignTrainer

ALPHA, WIDTH = 5.0, 32


def test_noise_is_added_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noises: list[torch.Tensor] = []

    def see(embedding: Any, given: Any, output: torch.Tensor) -> None:
        noise = (output - torch.nn.functional.embedding(given[0], embedding.weight)).detach()
        # Without what fills the row behind its one sequence.
        noises.append(noise[:, : lengths[-1]])

    lengths: list[int] = []
    step = AlignTrainer.training_step

    def watched(self: AlignTrainer, model: torch.nn.Module, *args: Any) -> torch.Tensor:
        # The last of the hooks sees what all of them have done.
        lengths.append(sum(len(row) for row in args[0]))
        handle = model.get_input_embeddings().register_forward_hook(see)  # type: ignore[operator]
        loss = step(self, model, *args)
        handle.remove()
        return loss

    monkeypatch.setattr(AlignTrainer, "training_step", watched)
    inputs = tiny_runs.make_inputs(tmp_path)
    options = {"per_device_train_batch_size": 1, "max_steps": 1, "num_samples": 0}
    tiny_runs.run(inputs, tmp_path / "run", neftune_noise_alpha=ALPHA, **options)
    (noise,) = noises
    # Uniform in a range of alpha / sqrt(L d) around zero, for the one sequence of L tokens.
    limit = ALPHA / (noise.shape[1] * WIDTH) ** 0.5
    assert noise.abs().max().item() == pytest.approx(limit, rel=0.02)
    assert noise.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)
