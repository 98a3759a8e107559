"""The run folder: where a run starts in it, what run.json says, and what is left when it ends."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_align.config import Recipe
from hf_align.errors import UserError
from hf_align.reporting.run_record import (
    RUN_FILE,
    collect_machine,
    collect_versions,
    read_run,
    redact,
    write_json,
)

logger = logging.getLogger(__name__)


def prepare_output_dir(output_dir: str, *, resuming: bool) -> None:
    """Make ``output_dir`` ready for a run; nothing that is in it gets lost.

    An earlier run there is moved to ``<output_dir>.<time>`` unless it is resumed. Raises UserError for a
    folder that holds something else.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir: '{output_dir}' is a file; expected a folder")
    if resuming or not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        return
    if not (folder / RUN_FILE).is_file():
        raise UserError(
            f"output_dir: '{output_dir}' is not empty and is not a run folder (it has no {RUN_FILE}); "
            "choose another folder"
        )
    moved = folder.with_name(f"{folder.name}.{datetime.now(UTC):%Y%m%d-%H%M%S}")
    folder.rename(moved)
    folder.mkdir()
    logger.warning("%s held an earlier run, which is now in %s", folder, moved)


class RunRecord:
    """run.json, written whole whenever something is added to it.

    A resumed run keeps what the first part recorded (evaluation and samples from before training) and adds
    to its wall time.
    """

    def __init__(self, command: str, recipe: Recipe, output_dir: str, *, resuming: bool, main: bool) -> None:
        self.path = Path(output_dir) / RUN_FILE
        self.main = main
        self.started = time.perf_counter()
        self.content: dict[str, Any] = {}
        if resuming and self.path.is_file():
            self.content = read_run(output_dir)
        self.earlier_seconds = float(self.content.get("wall_time_seconds") or 0.0)
        self.content.setdefault("started", datetime.now(UTC).isoformat(timespec="seconds"))
        self.update(
            command=command,
            status="running",
            recipe=redact(recipe.to_flat()),
            recipe_path=recipe.recipe_path,
            overrides=redact(recipe.overrides),
            versions=collect_versions(),
            machine=collect_machine(),
        )

    def update(self, **entries: Any) -> None:
        self.content.update(entries)
        seconds = self.earlier_seconds + time.perf_counter() - self.started
        self.content["wall_time_seconds"] = round(seconds, 1)
        if self.main:
            write_json(self.path, self.content)
