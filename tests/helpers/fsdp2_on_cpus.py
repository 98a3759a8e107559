"""Started by torchrun: a command of hf-align under FSDP2, on processes of a CPU.

Accelerate shards on accelerators alone, though torch's FSDP2 runs on gloo. Here it takes a CPU for one.
Arguments: as those of ``python -m hf_align``.
"""

from __future__ import annotations

import os
import runpy
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState

SETTINGS = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def on_the_cpu(state: Any) -> None:
    state.device = torch.device("cpu")


def main() -> None:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *given: ("gloo", DistributedType.MULTI_GPU)  # type: ignore[method-assign]
    PartialState.set_device = on_the_cpu  # type: ignore[method-assign]
    try:
        runpy.run_module("hf_align", run_name="__main__")
    finally:
        assert AcceleratorState().is_fsdp2, "nothing was sharded"


if __name__ == "__main__":
    main()
