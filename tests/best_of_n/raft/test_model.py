"""The model of a round is trained further, adapters included."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.tiny_adapters import save_adapter
from helpers.tiny_raft import make_inputs, run
from safetensors.torch import load_file

from hf_align.errors import UserError

SHORT = {"adapter": "lora", "lora_r": 4, "num_train_epochs": 2, "num_generations": 8, "keep_best": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.slow
def test_an_adapter_is_trained_further(inputs, tmp_path):
    start = save_adapter(tmp_path / "adapter", inputs["model_name_or_path"], scale=0.05)
    mine = {**inputs, "model_name_or_path": start}
    keys = {key: value for key, value in SHORT.items() if key not in ("adapter", "lora_r")}
    record = run(mine, tmp_path / "run", **{**keys, "rounds": 1})
    assert record["model"]["adapter"] == "lora"
    assert record["model"]["trainable_parameters"] < record["model"]["parameters"]
    before, after = (
        load_file(path / "adapter_model.safetensors") for path in (tmp_path / "adapter", tmp_path / "run")
    )
    assert before.keys() == after.keys()
    assert all(not before[name].equal(after[name]) for name in before)
    with pytest.raises(UserError, match="is an adapter itself, which is trained further as it is"):
        run(mine, tmp_path / "other", **SHORT)
