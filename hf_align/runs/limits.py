"""A run that the machine's limits have ended: memory, or files that are open at once; what to do about it.

What this leaves out: a full disk (``disk_full``), after which something has to be removed.
"""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterator

import torch

from hf_align.errors import UserError

_CPU_ALLOCATORS = re.compile(r"(DefaultCPUAllocator|DefaultMobileCPUAllocator|can't allocate memory)")
_OPEN_FILES = re.compile(r"Too many open files|os error 2[34]\b")


def explain(error: BaseException) -> UserError | None:
    """The message for a run that a limit has ended, or None where ``error`` is something else."""
    for each in _chain(error):
        if _is_out_of_memory(each):
            where = "GPU's" if isinstance(each, torch.OutOfMemoryError) else "machine's"
            return UserError(
                f"the {where} memory does not hold this run. Lower max_tokens_per_batch (the result stays "
                "the same), set gradient_checkpointing: true, or train an adapter on a 4-bit base "
                f"(adapter: lora, load_in_4bit: true). {_first_line(each)}"
            )
        if _is_too_many_files(each):
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return UserError(
                f"too many files are open at once; this shell allows {most}. Allow more (ulimit -n 65536) "
                f"and start again, with resume_from_checkpoint: auto where there is a checkpoint. "
                f"{_first_line(each)}"
            )
    return None


def has_too_many_files(error: BaseException) -> bool:
    """Whether ``error`` comes of the system's refusal to open another file, whoever asked for it."""
    return any(map(_is_too_many_files, _chain(error)))


def _is_too_many_files(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return True
    named = isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError"
    return named and _OPEN_FILES.search(str(error)) is not None


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch raises an error of its own for GPUs, and a RuntimeError for a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _CPU_ALLOCATORS.search(str(error)) is not None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, UserError):
        yield seen
        seen = seen.__cause__ or seen.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
