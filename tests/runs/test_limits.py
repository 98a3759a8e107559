"""Memory and open files: told from other errors, with what to do."""

from __future__ import annotations

import errno

import pytest
import torch

from hf_align.errors import UserError
from hf_align.runs.limits import explain


class SafetensorError(Exception):
    """As safetensors names its own."""


def cpu_error() -> RuntimeError:
    """What PyTorch raises on a CPU for more than there is."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "the GPU's memory does not hold this run. Lower max_tok",
        ),
        (cpu_error(), "the machine's memory does not hold this run. Lower max_tokens_per_batch"),
        (MemoryError(), "the machine's memory does not hold this run"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "set gradient_checkpointing: true"),
        (OSError(errno.EMFILE, "Too many open files"), "too many files are open at once; this shell allows"),
        (SafetensorError("Too many open files (os error 24)"), "ulimit -n 65536"),
        (RuntimeError("open file failed with strerror: Too many open files"), "too many files"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ""),
        (ValueError("too many open files in the recipe"), ""),
        (UserError("max_tokens_per_batch: found 0"), ""),
    ],
)
def test_what_an_error_means(error: BaseException, words: str) -> None:
    found = explain(error)
    assert (words in str(found)) if words else found is None
    outer = RuntimeError("the step failed")
    outer.__cause__ = error
    again = explain(outer)
    assert str(again) == str(found)
