"""EVA before training: the batches that it looks at, one decision for all processes, and what run.json says.

The main process looks at training rows in the order of the run's seed, and the others take over what it has
found; a run that is resumed takes the ranks from its checkpoint. The method is in ``adapters.eva``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from hf_align.adapters import eva
from hf_align.adapters.factory import count_parameters, trained_weights
from hf_align.data.batching import StepSampler
from hf_align.data.packing import to_device
from hf_align.errors import UserError
from hf_align.modeling.inputs import classification_inputs, model_inputs, places, scoring_inputs
from hf_align.runs import processes
from hf_align.runs.schema import Model, Record
from hf_align.types import IGNORE_INDEX, ComparisonBatch, LabelledBatch

if TYPE_CHECKING:
    from hf_align.training.run import Run
    from hf_align.training.trainer import AlignTrainer

logger = logging.getLogger(__name__)


def begin_with_eva(run: Run, trainer: AlignTrainer) -> None:
    """Give the LoRA layers of the trainer's model the directions and ranks that EVA finds for the run's rows.

    Raises UserError where that cannot be done, saying why.
    """
    model: Any = trainer.model
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise UserError(
            "init_lora_weights: eva runs the whole model before it is sharded; train without FSDP and "
            "DeepSpeed, or take default"
        )
    if model.config.is_encoder_decoder:
        raise UserError(
            "init_lora_weights: eva is for models of one stack; in an encoder-decoder model, layers see the "
            "positions of the prompt or those of the answer. Take default, or pissa"
        )
    rank = run.config.adapter.lora_r
    if run.checkpoint is not None:
        directions = eva.directions_of(model, run.checkpoint)
        eva.put_in(model, directions)
        # What was found is in the record of the first part, where that is in this folder.
        ranks = [{"name": eva.plain(name), "rank": len(axes)} for name, axes in directions.items()]
        _record(run, model, run.record.content.eva or {"layers": ranks})
        return
    started = time.perf_counter()
    needed = eva.needed_inputs(model)
    batches = _batches(run, trainer, needed)
    first = sum(_counted(row, run) for row in batches[0])
    if first < needed:
        raise UserError(
            f"init_lora_weights: eva needs {needed} positions for this rank, and the training rows have "
            f"{first} {'targets' if run.config.adapter.eva_use_label_mask else 'tokens'}; lower lora_r or "
            "eva_rho, or take default"
        )

    def look() -> eva.Directions:
        with trainer.accelerator.autocast():
            return eva.find_directions(model, batches, lambda rows: _arguments(run, trainer, rows))

    found = processes.on_main(look)
    eva.put_in(model, found.directions)
    layers = [
        {
            "name": eva.plain(name),
            "rank": len(axes),
            "explained_variance": round(found.explained[name], 6),
        }
        for name, axes in found.directions.items()
    ]
    ranks = [layer["rank"] for layer in layers]
    mean = sum(found.explained.values()) / len(layers)
    seconds = round(time.perf_counter() - started, 1)
    logger.info(
        "eva: ranks %d to %d (lora_r %d) on %d layers, whose directions explain %.0f %% of the variance of "
        "their inputs on average; %d passes, %s positions, %.1f s",
        min(ranks),
        max(ranks),
        rank,
        len(layers),
        100 * mean,
        found.passes,
        f"{found.positions:,}",
        seconds,
    )
    _record(
        run,
        model,
        {
            "explained_variance": round(mean, 6),
            "passes": found.passes,
            "positions": found.positions,
            "seconds": seconds,
            "layers": layers,
        },
    )


def _record(run: Run, model: Any, facts: dict[str, Any]) -> None:
    """Run.json: what EVA found, and what is trained now that ranks have moved."""
    total, trainable = count_parameters(model)
    run.record.update(Record(eva=facts))
    trained = trained_weights(model)
    run.record.update_model(Model(parameters=total, trainable_parameters=trainable, trained=trained))


def _batches(run: Run, trainer: AlignTrainer, needed: int) -> list[list[Any]]:
    """Rows in an order of the run's seed, in batches of the run's budget, each with enough that counts.

    What is left at the end goes with the batch before it.
    """
    rows, budget = run.data.train, trainer.max_tokens_per_batch
    order = next(iter(StepSampler(len(rows), len(rows), seed=run.training.seed)))
    batches: list[list[Any]] = [[]]
    tokens = counted = longest = 0
    for index in order:
        row = rows[index]
        length = len(row)
        grown = max(longest, length) * (len(batches[-1]) + 1) if trainer.task.padded else tokens + length
        if counted >= needed and grown > budget:
            if len(batches) == eva.MOST_PASSES:
                return batches
            batches.append([])
            tokens = counted = longest = 0
        batches[-1].append(row)
        tokens, counted, longest = tokens + length, counted + _counted(row, run), max(longest, length)
    if counted < needed and len(batches) > 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def _counted(row: Any, run: Run) -> int:
    targets: int = row.target_tokens if run.config.adapter.eva_use_label_mask else 0
    return targets or len(row)


def _arguments(run: Run, trainer: AlignTrainer, rows: Sequence[Any]) -> tuple[dict[str, Any], torch.Tensor]:
    batch = to_device(trainer.task.collate(rows), trainer.args.device)
    inputs = batch.inputs
    counted = inputs.shift_labels != IGNORE_INDEX
    if not run.config.adapter.eva_use_label_mask or not counted.any():
        real = inputs.attention_mask
        counted = torch.ones_like(counted) if real is None else real.bool()
    if isinstance(batch, LabelledBatch):
        given = classification_inputs(batch)
    elif isinstance(batch, ComparisonBatch):
        scores = str(trainer.model.active_peft_config.task_type).endswith("SEQ_CLS")
        given = scoring_inputs(batch) if scores else model_inputs(batch.inputs)
    else:
        given = model_inputs(batch)
    return given, places(given, counted)
