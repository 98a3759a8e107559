"""The trained model in the run folder: as one whole, or merged where its adapter is a change of weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.runs import processes
from hf_align.runs.schema import Record
from hf_align.saved_models.run_models import ADAPTER_FOLDER

if TYPE_CHECKING:
    from hf_align.training.run import Run
    from hf_align.training.trainer import AlignTrainer


CHECKED_ROWS = 4
"""Rows whose scores or logits are compared before and after an adapter is merged."""


def checked_rows(run: Run) -> list[Any]:
    """The rows that are compared where an adapter is merged: held-out ones where there are any."""
    return list(itertools.islice(run.data.eval or run.data.train, CHECKED_ROWS))


def save_model(run: Run, trainer: AlignTrainer, folder: Path | None = None) -> None:
    """Save the trained model as one whole, also where its checkpoints are sharded.

    ``folder``: where, by default the run folder.
    """
    # Trainer switches the cache off for training; whoever loads the model generates with it.
    trainer.model.config.use_cache = True
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    place = folder or Path(run.training.output_dir)
    trainer.save_model(str(place))
    if run.machine.main:
        # A pickle, and nothing in it that run.json does not say.
        (place / "training_args.bin").unlink(missing_ok=True)
        _save_stop_tokens(trainer.model, place)


def _save_stop_tokens(model: Any, folder: Path) -> None:
    """Write ``generation_config.json`` beside an adapter, which PEFT leaves out: the base may end its answers
    with other tokens than the chat template that was trained with."""
    own = getattr(model, "generation_config", None)
    if hasattr(model, "peft_config") and own is not None:
        own.save_pretrained(str(folder))


def save_with_adapter(
    run: Run, trainer: AlignTrainer, merge: Callable[[Path, Path], float], *, metric: str
) -> None:
    """Save the trained model as it is or, where the recipe says so, merged and with its adapter beside it.

    ``merge``: (run folder, folder of the saved adapter) to the largest difference that merging made, in
    standard deviations; it writes the merged model into the run folder. ``metric``: under which name that
    difference stands in run.json.
    """
    if not run.config.merges:
        save_model(run, trainer)
        return
    folder = Path(run.training.output_dir)
    adapter = folder / ADAPTER_FOLDER
    save_model(run, trainer, adapter)
    if run.machine.main:
        # A form to fill in that PEFT puts there; the card of the run says what is known.
        (adapter / "README.md").unlink(missing_ok=True)
        run.record.update(Record(merge={metric: merge(folder, adapter)}))
    processes.wait_for_everyone()
