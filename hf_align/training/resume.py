"""Continue an interrupted run from its last checkpoint, and refuse where that would not be the same run.

A checkpoint carries the identity of its run, the resolved recipe and a digest of the training rows, inside
``trainer_state.json``. What this module leaves out: setting half-written checkpoints aside.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hf_align.errors import UserError
from hf_align.reporting.run_record import redact
from hf_align.types import TokenizedRow

logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
# Keys that change neither the order of what is trained nor, beyond rounding, the weights.
FREE_KEYS = frozenset(
    "output_dir resume_from_checkpoint force_resume report_to run_name logging_steps "
    "save_strategy save_steps save_total_limit num_samples sample_max_new_tokens sample_temperature "
    "per_device_eval_batch_size max_malformed_share max_untrained_share max_tokens_per_batch "
    "gradient_checkpointing".split()
)


class RunIdentity(TrainerCallback, ExportableState):
    """Stores ``{"recipe": …, "data": …}`` in every checkpoint's trainer state."""

    def __init__(self, identity: dict[str, Any]) -> None:
        self.identity = identity

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"identity": self.identity}}


def rows_digest(rows: Iterable[TokenizedRow]) -> str:
    """SHA-256 over the ids and targets of all rows, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(len(row).to_bytes(8, "little"))
        digest.update(row.input_ids.tobytes())
        digest.update(row.target_mask.tobytes())
    return digest.hexdigest()


def run_identity(recipe: dict[str, Any], data_digest: str | None) -> dict[str, Any]:
    """``data_digest`` is None for a stream, whose rows are not known beforehand."""
    # Redacted, since it is written to disk; the same recipe always comes out the same.
    kept = redact({key: value for key, value in recipe.items() if key not in FREE_KEYS})
    identity: dict[str, Any] = json.loads(json.dumps({"recipe": kept, "data": data_digest}))
    return identity


def find_checkpoint(output_dir: str, wanted: str | None) -> Path | None:
    """The checkpoint folder that ``resume_from_checkpoint`` means.

    ``auto``: the newest complete one in ``output_dir``, or None where there is none yet. A path: that
    folder. Raises UserError where a named folder is not a complete checkpoint.
    """
    if wanted is None:
        return None
    if wanted != "auto":
        missing = _missing(Path(wanted))
        if missing:
            raise UserError(f"resume_from_checkpoint: '{wanted}' is not a complete checkpoint: {missing}")
        return Path(wanted)
    folders = [f for f in Path(output_dir).glob("checkpoint-*") if f.name.split("-")[-1].isdigit()]
    for folder in sorted(folders, key=lambda f: int(f.name.split("-")[-1]), reverse=True):
        missing = _missing(folder)
        if not missing:
            return folder
        logger.warning("%s is not a complete checkpoint (%s) and is not used", folder, missing)
    return None


def check_identity(checkpoint: Path, identity: dict[str, Any], *, force: bool) -> None:
    """Raise UserError where data or recipe are not those of the checkpoint; with ``force``, warn."""
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    saved = state.get("stateful_callbacks", {}).get("RunIdentity", {}).get("attributes", {}).get("identity")
    if saved is None:
        differences = ["it does not say which recipe and data it was trained on"]
    else:
        differences = _differences(saved, identity)
    if not differences:
        return
    message = f"{checkpoint} belongs to another run: " + "; ".join(differences)
    if not force:
        raise UserError(
            message + ". Continue it with its own recipe and data, start anew without "
            "resume_from_checkpoint, or set force_resume: true to go on all the same."
        )
    logger.warning("%s (force_resume is set)", message)


def _differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = saved["recipe"], now["recipe"]
    differences = [
        f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if saved["data"] != now["data"]:
        differences.append("the training rows have changed")
    return differences


def _missing(folder: Path) -> str:
    """What a checkpoint folder lacks, or an empty string."""
    if not folder.is_dir():
        return "there is no such folder"
    try:
        json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{STATE_FILE} is missing or broken"
    weights = [
        *folder.glob("*.safetensors"),
        *folder.glob("pytorch_model_fsdp*"),
        *folder.glob("global_step*"),
    ]
    if not weights:
        return "no weights"
    if not list(folder.glob("rng_state*.pth")):
        return "no random states (rng_state*.pth)"
    return ""
