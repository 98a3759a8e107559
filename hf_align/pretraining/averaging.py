"""The model that pre-training ends with: the last weights, or the mean of the last checkpoints.

The mean of weights along one run often has a lower loss than the last of them, most where the learning rate
was still high (Izmailov et al. 2018; Grattafiori et al. 2024, section 3.4.3). Whole safetensors checkpoints
only: those of sharded runs, which each process holds a part of, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hf_align.errors import UserError
from hf_align.pretraining.record import PretrainRecord
from hf_align.runs import checkpoints, processes
from hf_align.training.run import Run
from hf_align.training.saving import save_model
from hf_align.training.trainer import AlignTrainer


def save_averaged(run: Run, trainer: AlignTrainer) -> None:
    """Save the trained model; with ``average_last`` above 1 it is the mean of that many last weights.

    The weights at the end of training count as one, beside the checkpoints of earlier steps. run.json names
    the steps. The model in memory becomes the mean, and its evaluation follows; that of the last weights is
    kept as ``eval_loss_last``. Raises UserError where there are fewer checkpoints.
    """
    wanted = run.config.training.average_last
    if wanted > 1:
        _average(run, trainer, wanted)
    save_model(run, trainer)


def _average(run: Run, trainer: AlignTrainer, wanted: int) -> None:
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise UserError("average_last: the checkpoints of sharded runs cannot be averaged; set it to 1")
    processes.wait_for_everyone()
    step = trainer.state.global_step
    complete = [
        folder
        for folder in checkpoints.all_checkpoints(run.training.output_dir)
        if checkpoints.step_of(folder) < step and not checkpoints.what_is_missing(folder)
    ]
    chosen = complete[len(complete) - (wanted - 1) :] if len(complete) >= wanted - 1 else []
    if not chosen:
        raise UserError(
            f"average_last: found {len(complete)} checkpoints before the last step in "
            f"{run.training.output_dir}, expected {wanted - 1}; save more often, or average fewer"
        )
    known = PretrainRecord.of(run.record.content).pretraining
    if run.data.eval:
        metrics = trainer.last_evaluation() or trainer.evaluate()
        known.eval_loss_last = metrics["eval_loss"]
    model = trainer.accelerator.unwrap_model(trainer.model)
    set_mean(model, chosen)
    trainer.forget_evaluation()
    known.averaged = [*(f"step {checkpoints.step_of(folder)}" for folder in chosen), f"step {step}"]
    run.record.update(PretrainRecord(pretraining=known))


def set_mean(model: torch.nn.Module, folders: Sequence[Path]) -> None:
    """Set the parameters of ``model`` to their mean with those in the checkpoint ``folders``, in float64."""
    # A file holds shared weights once, under one of their names.
    names: dict[torch.nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    sums = {parameter: parameter.detach().double() for parameter in names}
    for folder in folders:
        saved = load_weights(folder)
        for parameter, aliases in names.items():
            name = next((alias for alias in aliases if alias in saved), None)
            if name is None:
                raise UserError(f"{folder}: the weights of {aliases[0]} are missing")
            sums[parameter] += saved[name].to(parameter.device)
    with torch.no_grad():
        for parameter, total in sums.items():
            parameter.copy_(total / (len(folders) + 1))


def load_weights(folder: Path) -> Mapping[str, Any]:
    """All tensors in the safetensors files of a checkpoint."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found
