"""A bottleneck adapter on a tiny model."""

from __future__ import annotations

from typing import Any

from hf_align.adapters.bottleneck import BottleneckOptions
from hf_align.adapters.custom.model import add_adapter
from hf_align.adapters.methods import METHODS


def bottleneck(model: Any, **options: Any) -> Any:
    return add_adapter(model, METHODS["bottleneck"], BottleneckOptions(**{"width": 4, **options}))
