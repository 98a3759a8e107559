"""Running the backbone of a ladder once for each row, before training, and reading its states ever after.

The states that the ladder reads are kept in the folder of the prepared rows, under a key that stands for
all that they depend on: the backbone's weights, the tokens, the layers, and how they are computed. Each of
several processes computes a share and reads all of them. What does not fit the budget is refused before
anything is computed. What this leaves out: how a batch finds its states (``adapters.ladder.states``).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from hf_align.adapters.custom.layers import CustomLayer
from hf_align.adapters.ladder.method import Ladder
from hf_align.adapters.ladder.states import KEY_BYTES, Part, StateFiles, StateWriter, open_part, stretches_of
from hf_align.data.batching import split_by_tokens
from hf_align.data.packing import to_device
from hf_align.data.store import cache
from hf_align.errors import UserError
from hf_align.modeling.inputs import model_inputs
from hf_align.modeling.lengths_apart import lengths_apart
from hf_align.modeling.precision import Precision, compute_dtype
from hf_align.modeling.weights_digest import model_digest
from hf_align.runs import processes as launch
from hf_align.runs.code_digest import code_digest
from hf_align.runs.schema import Record
from hf_align.types import Batch

if TYPE_CHECKING:
    from hf_align.training.run import Run
    from hf_align.training.trainer import AlignTrainer

logger = logging.getLogger(__name__)

_WHAT = "states of the backbone"
_FILE, _KEYS, _LENGTHS = "states.bin", "keys.bin", "lengths.bin"
# What of this package computes them; data preparation shows in the tokens.
_CODE = (
    "types/**/*.py",
    "data/packing.py",
    "data/comparisons/batches.py",
    "modeling/**/*.py",
    "adapters/**/*.py",
    "training/ladder_cache.py",
)


@dataclass(frozen=True)
class Pass:
    """How the backbone is run. ``batches``: the arguments of its stack for every micro-batch, on the CPU.

    ``stored``, ``computed``: number formats of states on disk, and as the backbone gives them.
    """

    backbone: torch.nn.Module
    ladder: Ladder
    batches: list[Any]
    precision: Precision
    device: torch.device
    stored: torch.dtype
    computed: torch.dtype

    @property
    def states(self) -> int:
        """Kept states of each token."""
        return len(self.ladder.side.layers) + self.ladder.adds

    @property
    def width(self) -> int:
        config: Any = self.backbone.config
        return int(config.hidden_size)


def use_known_states(run: Run, trainer: AlignTrainer) -> None:
    """Where the recipe asks for it, let the ladder of the trainer's model read states of all rows from disk.

    They are computed first where an earlier run has not done it. Run.json says what came of it. Raises
    UserError where there is no place for them, within the budget or on the disk.
    """
    adapter = run.config.adapter
    if not adapter.ladder_cache:
        return
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise UserError(
            "ladder_cache: states of a sharded backbone are not kept; train without FSDP and DeepSpeed, or "
            "set it to false"
        )
    if trainer.model.config.is_encoder_decoder:
        raise UserError(
            "ladder_cache: states are kept for decoders, where a sequence depends on its own tokens alone; "
            "set it to false for this encoder-decoder model"
        )
    folder = cache.writable_folder(run.config.data.dataset_cache_dir, what=_WHAT)
    if folder is None:
        raise UserError("ladder_cache: there is no folder for the states; name one with dataset_cache_dir")
    started = time.perf_counter()
    how = _pass(run, trainer)
    key, lengths = _key(how), _lengths(how)
    state = PartialState()
    names, missing = launch.on_main(lambda: _parts(folder, key, state.num_processes))
    needed = sum(lengths.values()) * how.states * how.width * how.stored.itemsize
    _check_room(needed, lengths, how, adapter.ladder_cache_budget_gb, folder if missing else None)

    def part(number: int) -> Part:
        return cache.open_or_make(
            folder,
            names[number],
            make=lambda place: _make(place, how, share=(number, len(names))),
            read=_read,
            still_valid=lambda: True,
            what=_WHAT,
        )

    # Each computes its own before it opens the rest: on a disk that is not shared it computes those as well.
    mine = {number: part(number) for number in range(state.process_index, len(names), state.num_processes)}
    launch.wait_for_everyone()
    parts = [mine[number] if number in mine else part(number) for number in range(len(names))]
    how.ladder.known = StateFiles(
        parts,
        states=how.states,
        width=how.width,
        stored=how.stored,
        computed=how.computed,
        with_final=how.ladder.adds,
    )
    seconds = round(time.perf_counter() - started, 1)
    tokens = sum(lengths.values())
    logger.info(
        "ladder: states of %s tokens (%.2f GB) %s in %.1f s",
        f"{tokens:,}",
        needed / 1e9,
        "computed" if missing else "of an earlier run found",
        seconds,
    )
    facts = {"entry": key, "reused": not missing, "tokens": tokens, "bytes": needed, "seconds": seconds}
    run.record.update(Record(ladder_states=facts))


def _parts(folder: Path, key: str, processes: int) -> tuple[list[str], list[str]]:
    """The parts that the states are in, and which of them are yet to be computed.

    One part for each process, or as many as an earlier run had where all of those are there.
    """
    earlier = sorted(int(path.name.rpartition("of")[2]) for path in folder.glob(f"{key}-0of*"))
    for count in (processes, *earlier):
        names = [f"{key}-{i}of{count}" for i in range(count)]
        missing = [name for name in names if not cache.holds(folder, name)]
        if not missing:
            return names, missing
    names = [f"{key}-{i}of{processes}" for i in range(processes)]
    return names, [name for name in names if not cache.holds(folder, name)]


def _pass(run: Run, trainer: AlignTrainer) -> Pass:
    task = trainer.task
    layer = next(module for module in trainer.model.modules() if isinstance(module, CustomLayer))
    ladder: Any = layer.added["default"]
    layout = {"padded": task.padded, "shared": task.shared}
    apart = lengths_apart(trainer.model, padded=task.padded)
    batches = [
        task.collate(rows).inputs
        for data in (run.data.train, run.data.eval)
        if len(data)
        for rows in split_by_tokens(list(data), trainer.max_tokens_per_batch, **layout, apart=apart)
    ]
    how = Pass(
        layer.base_layer,
        ladder,
        batches,
        run.machine.precision,
        trainer.args.device,
        stored=torch.bfloat16,
        computed=torch.float32,
    )
    # A few tokens tell in which format states come.
    rungs, final = _run(how, task.collate([task.filler()]).inputs)
    computed = functools.reduce(torch.promote_types, [one.dtype for one in rungs])
    stored = torch.bfloat16 if run.config.adapter.ladder_cache_dtype == "bfloat16" else computed
    return dataclasses.replace(how, computed=computed if final is None else final.dtype, stored=stored)


def _arguments(batch: Batch) -> dict[str, Any]:
    """What the stack of a model is called with."""
    return {name: value for name, value in model_inputs(batch).items() if name != "shift_labels"}


def _run(how: Pass, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    half = how.precision != "fp32"
    with torch.autocast(how.device.type, compute_dtype(how.precision), enabled=half):
        return how.ladder.compute(how.backbone, _arguments(to_device(batch, how.device)))


def _make(place: Path, how: Pass, *, share: tuple[int, int]) -> cache.Facts:
    """Write the states of every n-th micro-batch from the i-th on."""
    number, count = share
    mine = how.batches[number::count]
    bar = tqdm(mine, desc="states of the backbone", unit="batch", leave=False, disable=number != 0)
    writer = StateWriter(place / _FILE, how.stored)
    try:
        for batch in bar:
            rungs, final = _run(how, batch)
            stretches = stretches_of(_arguments(batch))
            assert stretches is not None
            writer.add(stretches, rungs if final is None else [*rungs, final])
    finally:
        writer.close()
    (place / _KEYS).write_bytes(b"".join(writer.keys))
    np.array(writer.lengths, "<i8").tofile(place / _LENGTHS)
    return {"sequences": len(writer.keys)}


def _read(entry: Path, facts: cache.Facts) -> Part:
    joined = (entry / _KEYS).read_bytes()
    keys = [joined[start : start + KEY_BYTES] for start in range(0, len(joined), KEY_BYTES)]
    return open_part(entry / _FILE, keys, np.fromfile(entry / _LENGTHS, "<i8").tolist())


def _lengths(how: Pass) -> dict[bytes, int]:
    """Tokens of every distinct sequence, by its key."""
    return {one.key: one.length for batch in how.batches for one in stretches_of(_arguments(batch)) or []}


def _key(how: Pass) -> str:
    digest = launch.on_main(lambda: model_digest(how.backbone))
    if digest is None:
        raise UserError(
            "ladder_cache: the code of this model is nowhere to be read, so that states of an earlier run "
            "could be those of another model; set it to false"
        )
    sequences = hashlib.blake2b(b"".join(sorted(_lengths(how))), digest_size=16)
    parts = {
        "model": digest,
        "sequences": sequences.hexdigest(),
        "layers": how.ladder.side.layers,
        "final": how.ladder.adds,
        "stored": str(how.stored),
        "precision": how.precision,
        "device": how.device.type,
        "attention": how.backbone.config._attn_implementation,
        "code": code_digest(*_CODE),
    }
    text = json.dumps(parts, sort_keys=True)
    return f"ladder-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _check_room(
    needed: int, lengths: dict[bytes, int], how: Pass, budget_gb: float, folder: Path | None
) -> None:
    """``folder``: where the states are yet to be written; None: they are there."""
    each = how.states * how.width * how.stored.itemsize
    size = (
        f"the states of {sum(lengths.values()):,} tokens take {needed / 1e9:.2f} GB ({each / 1000:.1f} KB a "
        f"token: {how.states} states of {how.width} numbers)"
    )
    smaller = "let the ladder read fewer layers (ladder_every: 2 halves it), or set ladder_cache to false"
    if needed > budget_gb * 1e9:
        raise UserError(
            f"ladder_cache_budget_gb: {size}, and the budget is {budget_gb:g} GB; give it more, {smaller}"
        )
    free = shutil.disk_usage(folder).free if folder is not None else needed
    if needed > free:
        raise UserError(
            f"ladder_cache: {size}, and {folder} has {free / 1e9:.2f} GB left; name another folder with "
            f"dataset_cache_dir, {smaller}"
        )
