"""Rows of compared answers, and references that are run over them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison
from helpers.tiny_models import tiny_model

from hf_align.data.comparisons.batches import collate_comparisons
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.heads.target import install_target_head
from hf_align.preference import reference_store
from hf_align.preference.reference import ReferencePass
from hf_align.types import ComparisonRow

SHAPES = [(6, (5, 9)), (0, (12, 3)), (11, (4, 4, 7)), (3, (2, 15)), (8, (7, 6)), (20, (3, 10, 2, 5))]

ROWS = [random_comparison(prefix, answers, seed=i) for i, (prefix, answers) in enumerate(SHAPES)]

TARGETS = sum(row.target_tokens for row in ROWS)

CODE = reference_store._code


class Counting(torch.nn.Module):
    """How often the model runs."""

    def __init__(self, family: str = "llama", seed: int = 0) -> None:
        super().__init__()
        self.model = ready(family, seed=seed)
        self.config = self.model.config
        self.runs = 0

    def forward(self, **inputs: Any) -> Any:
        self.runs += 1
        return self.model(**inputs)


def ready(family: str = "llama", *, seed: int = 0) -> Any:
    model = tiny_model(family, seed=seed)
    enable_segment_attention(model)
    install_target_head(model)
    return model


def how(layout: Any = "shared", max_tokens: int = 40, **options: Any) -> ReferencePass:
    collate = partial(collate_comparisons, packed=layout != "padded", share_prefix=layout == "shared")
    return ReferencePass(
        collate, layout, max_tokens, **{"precision": "fp32", "device": torch.device("cpu"), **options}
    )


def expected(row: ComparisonRow, family: str = "llama", seed: int = 0) -> list[np.ndarray]:
    """Each sequence by itself through the model as transformers has it, and log_softmax of its logits."""
    model = tiny_model(family, seed=seed)
    found = []
    for k in range(len(row.branches)):
        sequence = row.sequence(k)
        ids = torch.from_numpy(sequence.input_ids.astype(np.int64))
        with torch.no_grad():
            logps = torch.log_softmax(model(ids.unsqueeze(0)).logits[0].double(), dim=-1)
        places = np.flatnonzero(sequence.target_mask)
        found.append(np.array([float(logps[place - 1, ids[place]]) for place in places]))
    return found


def assert_right(rows: Sequence[ComparisonRow], family: str = "llama", seed: int = 0) -> None:
    for row in rows:
        assert row.reference_logps is not None
        for given, right in zip(row.reference_logps, expected(row, family, seed), strict=True):
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, right, atol=2e-5)


def _other_weights(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    with torch.no_grad():
        model.model.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    return {}


def _other_rows(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"rows": [*ROWS[:-1], random_comparison(2, (3, 3), seed=77)]}


def _other_layout(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"how": how("packed")}


def _other_precision(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"how": how(precision="bf16")}


def _other_attention(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    model.model.set_attn_implementation("eager")
    return {"first": how("padded"), "how": how("padded")}


def _other_code(model: Any, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.setattr(reference_store, "_code", lambda: {"torch": "1.0"})
    return {}
