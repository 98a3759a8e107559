"""The table of methods that PEFT lacks: one entry each."""

from __future__ import annotations

from hf_align.adapters.bitfit import BITFIT
from hf_align.adapters.bottleneck import BOTTLENECK
from hf_align.adapters.ladder.method import LADDER
from hf_align.adapters.method import Method

METHODS: dict[str, Method] = {method.name: method for method in (BOTTLENECK, BITFIT, LADDER)}
