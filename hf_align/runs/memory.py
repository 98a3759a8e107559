"""Memory of this process: its peak, giving back what a model held, and keeping what a step frees."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import sys

import torch

logger = logging.getLogger(__name__)

# Names and numbers from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def peak_memory_bytes(device: torch.device) -> int:
    """Peak allocated on a GPU, or resident in main memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next allocation instead of giving it back to the system.

    A training step on a CPU frees and allocates gigabytes in large pieces. glibc returns such pieces to the
    system at once and pays for fresh, zeroed pages in the next step. Does nothing under another C library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    if not (mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1)):
        logger.warning("the C library refused to keep freed memory; training on the CPU is slower")


def free_memory() -> None:
    """Give back what a model that nothing refers to any more has held."""
    # The forward of a model that was made ready refers to the model itself: counting alone frees nothing.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


PRIMITIVES = 512
"""Compiled products that oneDNN keeps, by default 1024: what a length has compiled goes when it has not come
for a while. A step needs some 30 for each length of its packed rows and 6 for each length of a segment."""


def limit_compiled_products() -> None:
    """Let oneDNN keep no more than ``PRIMITIVES``, unless the environment says how many.

    oneDNN reads the variable when it multiplies for the first time, so this comes before.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES))
