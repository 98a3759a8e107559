"""The probes of packed and padded batches, made by the main process for all: only it may hold the weights."""

from __future__ import annotations

from typing import Any

from hf_align.modeling.attention import packing_probe, padding_probe
from hf_align.modeling.attention.segments import register_segment_attention
from hf_align.runs.processes import on_main


def enable_segment_attention(model: Any) -> bool:
    """What the main process's probe of ``model`` finds, on every process; returns whether it can be packed.

    With FSDP's ``cpu_ram_efficient_loading`` only the main process of a machine holds weights at that time.
    """

    packed, attention = on_main(
        lambda: (packing_probe.enable_segment_attention(model), model.config._attn_implementation)
    )
    if packed and model.config._attn_implementation != attention:
        register_segment_attention()
        model.set_attn_implementation(attention)
    return packed


def settle_padding(model: Any) -> None:
    """What the main process's probe of padded batches finds, on every process."""
    padding_probe.mark(model, on_main(lambda: padding_probe.padding_differs(model)))


def shares_prefixes(model: Any) -> bool:
    """What the main process's probe of a packed ``model`` finds, on every process."""
    return on_main(lambda: packing_probe.shares_prefixes(model))
