"""Running the reference once for each row, model and way of computing, and keeping the result for other runs.

The key of an entry stands for everything that the log-probabilities depend on: the weights themselves, the
tokens of the rows in an order of their own, how they are computed and with which code. Another shuffle,
split, loss or beta finds the entry again; other weights, rows, template or code do not. The pass itself is in
``reference``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState

from hf_align.data.store import cache
from hf_align.errors import UserError
from hf_align.modeling.weights_digest import model_digest
from hf_align.preference.reference import (
    Logps,
    ReferencedRows,
    ReferencePass,
    Rows,
    reference_logps,
    row_digests,
    target_ends,
)
from hf_align.runs import processes
from hf_align.runs.code_digest import code_digest
from hf_align.types import ComparisonRow

logger = logging.getLogger(__name__)

_WHAT = "log-probabilities of the reference"
_LOGPS, _ENDS = "logps.bin", "ends.bin"
# What of this package computes them, beside the model; data preparation shows in the rows.
_CODE = (
    "types/**/*.py",
    "data/packing.py",
    "data/comparisons/batches.py",
    "preference/reference.py",
    "modeling/**/*.py",
)
_SUM_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class ReferenceRun:
    """What came of running a reference. ``digest``: of the model. ``entry``: the key in the cache, or None.

    ``reused``: an earlier run's results were taken. ``rows``: distinct ones, with ``target_tokens`` in all.
    """

    digest: str | None
    entry: str | None
    reused: bool
    rows: int
    target_tokens: int
    seconds: float


def run_reference(
    model: torch.nn.Module, sets: Sequence[Rows], how: ReferencePass, *, folder: Path | None
) -> tuple[list[ReferencedRows], ReferenceRun]:
    """The rows of all ``sets``, each with its log-probabilities under ``model``.

    ``folder``: where results are kept (see ``cache.writable_folder``); None: they last as long as the run.
    Rows that occur several times are run once. Each of several processes runs its share. Raises UserError
    where log-probabilities are not finite, and where the model is in no process as a whole.
    """
    started = time.perf_counter()
    digests = np.concatenate([row_digests(rows) for rows in sets])
    # Sorted by digest: the same rows in another order, or split otherwise, are the same here.
    distinct, first, places = np.unique(digests, return_index=True, return_inverse=True)
    rows = _Chosen(sets, first)
    ends = target_ends(rows)
    digest = processes.on_main(lambda: model_digest(model))
    key = None if folder is None or digest is None else _key(digest, distinct, model, how)
    logps, reused = _logps(model, rows, ends, how, folder=folder, key=key)
    begins = ends - np.diff(ends, prepend=0)
    starts = np.split(begins[places.reshape(-1)], np.cumsum([len(one) for one in sets])[:-1])
    done = [ReferencedRows(one, logps, start) for one, start in zip(sets, starts, strict=True)]
    seconds = time.perf_counter() - started
    logger.info(
        "reference: %s for %s rows in %.1f s",
        "log-probabilities of an earlier run found" if reused else "log-probabilities computed",
        f"{len(rows):,}",
        seconds,
    )
    return done, ReferenceRun(digest, key, reused, len(rows), len(logps), round(seconds, 1))


def _logps(
    model: torch.nn.Module,
    rows: Rows,
    ends: npt.NDArray[np.int64],
    how: ReferencePass,
    *,
    folder: Path | None,
    key: str | None,
) -> tuple[Logps, bool]:
    """The log-probabilities of ``rows``, and whether they were found on disk by every process."""
    state = PartialState()
    missing = folder is None or key is None or not cache.holds(folder, key)
    if state.num_processes > 1:
        missing = bool(_sum(np.array([missing], np.float32), state)[0])
        if missing:
            _check_whole()

    def compute(share: tuple[int, int], *, show: bool) -> Logps:
        with _on_device(model, how.device):
            return reference_logps(model, rows, how, share=share, show=show)

    computed: Logps | None = None
    if missing and (folder is None or key is None or state.num_processes > 1):
        # Together, since each process has a share; one process alone does it under the lock of the cache.
        share = (state.process_index, state.num_processes)
        computed = _sum(compute(share, show=state.is_main_process), state)
    if folder is None or key is None:
        assert computed is not None
        return computed, False

    def make(part: Path) -> cache.Facts:
        logps = compute((0, 1), show=True) if computed is None else computed
        logps.astype("<f4", copy=False).tofile(part / _LOGPS)
        ends.astype("<i8", copy=False).tofile(part / _ENDS)
        return {"rows": len(rows), "targets": len(logps)}

    return cache.open_or_make(
        folder, key, make=make, read=_read, still_valid=lambda: True, what=_WHAT
    ), not missing


def _read(entry: Path, facts: cache.Facts) -> Logps:
    # A mapping cannot be empty.
    return np.memmap(entry / _LOGPS, "<f4", "r") if facts["targets"] else np.zeros(0, np.float32)


def _key(digest: str, distinct: npt.NDArray[Any], model: Any, how: ReferencePass) -> str:
    parts = {
        "model": digest,
        "rows": hashlib.blake2b(distinct.tobytes(), digest_size=16).hexdigest(),
        "layout": how.layout,
        "precision": how.precision,
        "device": how.device.type,
        "attention": getattr(model.config, "_attn_implementation", None),
        "code": _code(),
    }
    text = json.dumps(parts, sort_keys=True)
    return f"reference-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _code() -> dict[str, str]:
    return code_digest(*_CODE)


class _Chosen(Sequence[ComparisonRow]):
    """Some rows of several sets; ``numbers`` count through the sets one after the other."""

    def __init__(self, sets: Sequence[Rows], numbers: npt.NDArray[np.int64]) -> None:
        self._sets = sets
        self._numbers = numbers
        self._ends = np.cumsum([len(rows) for rows in sets])

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Chosen(self._sets, self._numbers[index])
        number = int(self._numbers[index])
        which = int(np.searchsorted(self._ends, number, side="right"))
        return self._sets[which][number - (int(self._ends[which - 1]) if which else 0)]


@contextlib.contextmanager
def _on_device(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Run ``model`` on ``device``; afterwards it is where it was, as sharding expects it."""
    home = next(model.parameters()).device
    moved = home.type != device.type
    if moved:
        model.to(device)
    try:
        yield
    finally:
        if moved:
            model.to(home)


def _sum(values: Logps, state: PartialState) -> Logps:
    """The sum over all processes, on every process."""
    if state.num_processes > 1:
        for start in range(0, len(values), _SUM_AT_ONCE):
            piece = torch.from_numpy(values[start : start + _SUM_AT_ONCE]).to(state.device)
            torch.distributed.all_reduce(piece)
            values[start : start + _SUM_AT_ONCE] = piece.cpu().numpy()
    return values


def _check_whole() -> None:
    """Raise UserError where FSDP has left the weights out of all processes but one."""
    names = ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING")
    if all(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in names):
        raise UserError(
            "fsdp_cpu_ram_efficient_loading: every process runs its share of the reference before the model "
            "is sharded, and needs it as a whole for that; set it to false in the Accelerate file, or train "
            "an adapter, whose reference is the adapter switched off."
        )
