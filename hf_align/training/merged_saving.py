"""A run whose adapter is a change of weights leaves a whole model, and the adapter itself beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hf_align.modeling.run_models import ADAPTER_FOLDER
from hf_align.training import launch, trained_model

if TYPE_CHECKING:
    from hf_align.training.stage import Run
    from hf_align.training.trainer import AlignTrainer


def save_with_adapter(
    run: Run, trainer: AlignTrainer, merge: Callable[[Path, Path], float], *, figure: str
) -> None:
    """Save the trained model as it is or, where the recipe says so, merged and with its adapter beside it.

    ``merge``: (run folder, folder of the saved adapter) to the largest difference that merging made, in
    standard deviations; it writes the merged model into the run folder. ``figure``: under which name that
    difference stands in run.json.
    """
    if not run.config.merges:
        trained_model.save_model(run, trainer)
        return
    folder = Path(run.training.output_dir)
    adapter = folder / ADAPTER_FOLDER
    trained_model.save_model(run, trainer, adapter)
    if run.machine.main:
        # A form to fill in that PEFT puts there; the card of the run says what is known.
        (adapter / "README.md").unlink(missing_ok=True)
        run.record.update(merge={figure: merge(folder, adapter)})
    launch.wait_for_everyone()
