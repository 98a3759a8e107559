from __future__ import annotations

import subprocess
import sys
import types
import weakref

import pytest
import torch

from hf_align.runs.memory import free_memory, peak_memory_bytes


def test_peak_counts_what_was_used_and_does_not_fall() -> None:
    before = peak_memory_bytes(torch.device("cpu"))
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    during = peak_memory_bytes(torch.device("cpu"))
    del block
    assert peak_memory_bytes(torch.device("cpu")) >= during >= before > 50 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux")
def test_freed_memory_is_used_again_instead_of_fresh_pages() -> None:
    script = (
        "import resource, sys, torch\n"
        "from hf_align.runs.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': keep_freed_memory()\n"
        "for i in range(40):\n"
        "    torch.ones(64 * 2**20, dtype=torch.uint8)\n"
        "    if i == 19: before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = {
        how: int(subprocess.run([sys.executable, "-c", script, how], capture_output=True, check=True).stdout)
        for how in ("keep", "give")
    }
    # Twenty times 64 MiB in pages of 4 KiB are 330,000 faults; memory that is kept costs next to none, once
    # the first allocations have found their places.
    assert faults["keep"] < faults["give"] / 10


def test_a_model_whose_forward_refers_to_itself_is_given_back() -> None:
    model = torch.nn.Linear(2, 2)
    model.forward = types.MethodType(lambda self, x: x, model)  # type: ignore[method-assign]
    known = weakref.ref(model)
    del model
    free_memory()
    assert known() is None
