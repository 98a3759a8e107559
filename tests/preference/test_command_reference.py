"""The reference of a dpo run on a tiny model: where its log-probabilities come from, and stale ones."""

from __future__ import annotations

import gc
import json
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_preferences import LORA, SHORT, make_inputs, run
from helpers.tiny_runs import close_weights, same_weights
from transformers import AutoModelForCausalLM

from hf_align.errors import UserError
from hf_align.modeling import loading
from hf_align.preference import reference_models, reference_store


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), hidden_size=64)


def test_the_reference_may_be_computed_beforehand_or_in_the_step(inputs, tmp_path: Path) -> None:
    options = {**SHORT, **LORA, "optim": "sgd", "learning_rate": 1.0}
    run(inputs, tmp_path / "step", **options)
    result = run(inputs, tmp_path / "before", **options, precompute_ref_log_probs=True)
    assert result["reference"]["kind"] == "run beforehand"
    assert result["start_check"]["checked"]
    close_weights(tmp_path / "before", tmp_path / "step")


def test_log_probabilities_of_the_reference_serve_other_runs(
    inputs, tmp_path: Path, monkeypatch: Any
) -> None:
    cache = {"dataset_cache_dir": str(tmp_path / "cache")}
    first = run({**inputs, **cache}, tmp_path / "first", **SHORT)
    assert not first["reference"]["reused"] and first["reference"]["rows"] == 27
    assert (tmp_path / "cache" / first["reference"]["entry"]).is_dir()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the reference was run again")

    with monkeypatch.context() as patch:
        patch.setattr(reference_store, "reference_logps", refuse)
        other = {"loss": ["ipo", "hinge"], "beta": 0.3, "seed": 7, "learning_rate": 0.1}
        again = run({**inputs, **cache}, tmp_path / "again", **SHORT, **other)
        assert again["reference"]["reused"]
        assert again["reference"]["entry"] == first["reference"]["entry"]
        # The same rows, split in another way.
        merged = tmp_path / "all.jsonl"
        merged.write_text("".join(Path(inputs[key]).read_text() for key in ("datasets", "eval_datasets")))
        split = {"datasets": str(merged), "eval_datasets": [], "eval_split_size": 6}
        assert run({**inputs, **cache, **split}, tmp_path / "split", **SHORT)["reference"]["reused"]
        with pytest.raises(AssertionError, match="run again"):
            run({**inputs, **cache}, tmp_path / "off", **SHORT, reference_cache=False)
        with pytest.raises(AssertionError, match="run again"):
            run({**inputs, **cache, "system_prompt": "Be kind."}, tmp_path / "template", **SHORT)
    off = run({**inputs, **cache}, tmp_path / "off", **SHORT, reference_cache=False)
    assert off["reference"]["entry"] is None and same_weights(tmp_path / "off", tmp_path / "first")


def test_a_reference_of_its_own_is_gone_before_training(inputs, tmp_path: Path, monkeypatch: Any) -> None:
    other = save_tiny_checkpoint(tmp_path / "other", hidden_size=32, num_hidden_layers=1)
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight.mul_(3.0)
    model.save_pretrained(other)
    load, seen = loading.load_model, []

    def load_reference(*args: Any, **kwargs: Any) -> Any:
        found = load(*args, **kwargs)
        seen.append((weakref.ref(found), [weakref.ref(weight) for weight in found.parameters()]))
        return found

    def load_policy(*args: Any, **kwargs: Any) -> Any:
        (reference, parameters) = seen[0]
        assert reference() is None and all(weight() is None for weight in parameters)
        seen.append(None)
        return load(*args, **kwargs)

    monkeypatch.setattr(reference_models, "load_model", load_reference)
    monkeypatch.setattr(loading, "load_model", load_policy)
    gc.disable()  # only what the command itself does may free it
    try:
        result = run(inputs, tmp_path / "run", ref_model_name_or_path=other, **SHORT, **LORA)
    finally:
        gc.enable()
    assert len(seen) == 2
    assert result["reference"]["kind"] == "run beforehand" and result["reference"]["model"] == other
    assert "another model" in result["start_check"]["why"]
    # The model was never its own reference.
    assert abs(result["final_metrics"]["eval_pairwise_loss_before"] - math.log(2)) > 0.01
    assert result["final_metrics"]["eval_kl_before"] > 0.01


def test_a_stale_reference_is_noticed_before_training(inputs, tmp_path: Path, monkeypatch: Any) -> None:
    # The worst that could happen to the cache: another model's log-probabilities under this model's key.
    monkeypatch.setattr(reference_store, "model_digest", lambda model: "the same for all")
    cache = {"dataset_cache_dir": str(tmp_path / "cache")}
    other = save_tiny_checkpoint(tmp_path / "other", hidden_size=48)
    run({**inputs, **cache, "model_name_or_path": other}, tmp_path / "first", **SHORT)
    with pytest.raises(UserError, match="held-out rows before training the mean pairwise loss"):
        run({**inputs, **cache}, tmp_path / "run", **SHORT)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted" and record["reference"]["reused"]
    assert list(record["start_check"]["found"]) == ["held-out rows"]
    unseen = {**inputs, **cache, "eval_datasets": []}
    run({**unseen, "model_name_or_path": other}, tmp_path / "second", **SHORT)
    with pytest.raises(UserError, match="the rows of the first step the mean pairwise loss"):
        run(unseen, tmp_path / "unseen", **SHORT)
    assert not list((tmp_path / "unseen").glob("*.safetensors"))
    run({**inputs, **cache}, tmp_path / "run", **SHORT, reference_cache=False)


def test_a_reference_with_another_tokenizer_is_refused(inputs, tmp_path: Path) -> None:
    other = save_tiny_checkpoint(tmp_path / "other")
    tokenizer = tiny_tokenizer(300)
    assert tokenizer.get_vocab() != tiny_tokenizer().get_vocab()
    tokenizer.save_pretrained(other)
    with pytest.raises(UserError, match=r"ref_model_name_or_path: .*another tokenizer"):
        run(inputs, tmp_path / "run", ref_model_name_or_path=other)
