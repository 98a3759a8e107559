"""The pretrain command on tiny models: objectives learn, steps may be cut, runs resumed, weights averaged."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_pretraining import SMALL, every_pair, make_inputs, run
from helpers.tiny_runs import merged_metrics, same_weights, steps, weights

from hf_align.errors import UserError
from hf_align.pretraining.recipe import KIND_OF_OBJECTIVE


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


LOADERS = {
    "encoder": "AutoModelForMaskedLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
    "decoder": "AutoModelForCausalLM",
}
TEXT = ("causal", "prefix_lm", "decoder_prefix_lm")
FAST = [("bert", "mlm_nsp"), ("t5", "span_corruption"), ("gpt2", "causal")]
LEARNED = [pair if pair in FAST else pytest.param(*pair, marks=pytest.mark.slow) for pair in every_pair()]


@pytest.mark.parametrize(("architecture", "objective"), LEARNED)
def test_every_objective_learns_more_than_frequencies(
    inputs: dict[str, Any], tmp_path: Path, architecture: str, objective: str
) -> None:
    import transformers

    kind = KIND_OF_OBJECTIVE[objective]
    record = run(
        inputs,
        tmp_path / "run",
        architecture,
        objective=objective,
        max_steps=150 if kind == "encoder" else 40,
        learning_rate=0.005 if kind == "encoder" else 0.01,
        packing=False if kind == "encoder" and objective not in ("mlm_nsp", "sop") else None,
        per_device_train_batch_size=8,
    )
    metrics = record["final_metrics"]
    loss = metrics.get("eval_token_loss", metrics["eval_loss"])
    before = metrics.get("eval_token_loss_before", metrics["eval_loss_before"])
    assert loss < metrics["eval_unigram_entropy"] - 0.1 < before
    assert metrics["eval_unigram_entropy"] == metrics["eval_unigram_entropy_before"]
    (source,) = record["pretraining"]["after"]
    assert source["loss"] == pytest.approx(loss, rel=1e-5)
    assert ("bits_per_character" in source) == (objective in TEXT)
    assert {"before", "after", "reference", "prompt"} <= record["generations"][0].keys()
    loaded, found = getattr(transformers, LOADERS[kind]).from_pretrained(
        tmp_path / "run", output_loading_info=True
    )
    assert not found["missing_keys"]
    assert len(transformers.AutoTokenizer.from_pretrained(tmp_path / "run")) == loaded.config.vocab_size
    assert "unigram entropy" in (tmp_path / "run" / "report.html").read_text()
    assert LOADERS[kind] in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize(("architecture", "objective"), [("bert", "mlm_nsp"), ("bart", None), ("gpt2", None)])
def test_a_step_does_not_depend_on_how_it_is_cut(
    inputs: dict[str, Any], tmp_path: Path, architecture: str, objective: str | None
) -> None:
    # An optimizer without state, whose step is the gradient itself; Adam would blow up rounding.
    options = {"objective": objective, "max_steps": 3, "optim": "sgd", "learning_rate": 0.5, "num_samples": 0}
    run(inputs, tmp_path / "whole", architecture, per_device_train_batch_size=8, **options)
    run(
        inputs,
        tmp_path / "cut",
        architecture,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=8,
        max_tokens_per_batch=60,
        **options,
    )
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("bert", {"objective": "mlm_nsp", "num_train_epochs": 2, "max_steps": None}),
        ("t5", {"streaming": True, "max_steps": 14, "shuffle_buffer_size": 7}),
        (
            "spanbert",
            {
                "average_last": 2,
                "max_steps": 14,
                "config_overrides": {**SMALL["bert"], "hidden_dropout_prob": 0.1},
            },
        ),
    ],
    ids=["pairs", "stream", "averaged"],
)
def test_a_resumed_run_ends_with_the_same_bits(
    inputs: dict[str, Any], tmp_path: Path, architecture: str, options: dict[str, Any]
) -> None:
    cut = 5
    options = {
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "steps",
        "save_steps": cut,
    } | options
    run(inputs, tmp_path / "whole", architecture, **options)
    run(inputs, tmp_path / "parts", architecture, **options)
    last = steps(tmp_path / "parts")[-1]
    assert last > cut
    shutil.rmtree(tmp_path / "parts" / f"checkpoint-{last}")
    record = run(inputs, tmp_path / "parts", architecture, resume_from_checkpoint="auto", **options)
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    assert merged_metrics(tmp_path / "whole") == merged_metrics(tmp_path / "parts")
    whole = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert record["pretraining"] == whole["pretraining"]


def test_the_mean_of_the_last_weights_is_saved(inputs: dict[str, Any], tmp_path: Path) -> None:
    record = run(
        inputs,
        tmp_path / "run",
        "gpt2",
        average_last=3,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=3,
        eval_strategy="steps",
        eval_steps=2,
    )
    saved = weights(tmp_path / "run")
    parts = [weights(tmp_path / "run" / f"checkpoint-{step}") for step in (2, 4, 6)]
    for name, value in saved.items():
        torch.testing.assert_close(value, sum(part[name] for part in parts) / 3)
    assert record["pretraining"]["averaged"] == ["step 2", "step 4", "step 6"]
    assert record["pretraining"]["eval_loss_last"] != record["final_metrics"]["eval_loss"]


STAGES = [
    {"steps": 3, "block_length": 24, "per_device_train_batch_size": 2, "learning_rate": 0.002},
    {"steps": 4},
    {"steps": 3, "lr_scheduler_type": "linear", "learning_rate": 0.005},
]


def test_stages_follow_each_other_and_can_be_resumed(inputs: dict[str, Any], tmp_path: Path) -> None:
    options = {
        "stages": STAGES,
        "max_steps": None,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 2,
        "save_strategy": "steps",
        "save_steps": 5,
    }
    record = run(inputs, tmp_path / "whole", "gpt2", **options)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates == pytest.approx([0, 0.001, 0.002] + [0.01] * 4 + [0.005, 0.005 * 2 / 3, 0.005 / 3])
    # A token of each document in a block predicts nothing.
    tokens = [line["target_tokens"] for line in lines if "loss" in line]
    assert all(40 <= count <= 48 for count in tokens[:3])
    assert all(100 <= count <= 192 for count in tokens[3:])
    assert [stage["block_length"] for stage in record["pretraining"]["stages"]] == [24, 48, 48]
    run(inputs, tmp_path / "parts", "gpt2", **options)
    shutil.rmtree(tmp_path / "parts" / "checkpoint-10")
    run(inputs, tmp_path / "parts", "gpt2", resume_from_checkpoint="auto", **options)
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    assert merged_metrics(tmp_path / "whole") == merged_metrics(tmp_path / "parts")


def test_the_learning_rate_is_stable_and_falls_at_the_end(inputs: dict[str, Any], tmp_path: Path) -> None:
    run(
        inputs,
        tmp_path / "run",
        "gpt2",
        max_steps=10,
        learning_rate=0.004,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 4, "decay_type": "linear"},
        warmup_steps=2,
        logging_steps=1,
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates == pytest.approx([0, 0.002, *[0.004] * 5, 0.003, 0.002, 0.001])


@pytest.mark.parametrize("objective", ["mlm_nsp", "span_mlm"])
def test_a_stage_may_leave_a_data_set_out(inputs: dict[str, Any], tmp_path: Path, objective: str) -> None:
    from helpers.tiny_pretraining import write_documents

    other = write_documents(tmp_path / "other.jsonl", 9, start=3)
    stages = [{"steps": 2}, {"steps": 2, "block_length": 32, "weights": {inputs["datasets"]: 0, other: 2}}]
    record = run(
        inputs,
        tmp_path / "run",
        "bert",
        objective=objective,
        datasets=[inputs["datasets"], other],
        stages=stages,
        max_steps=None,
    )
    assert record["final_metrics"]["steps"] == 4


def test_a_trained_model_is_trained_on(inputs: dict[str, Any], tmp_path: Path) -> None:
    first = run(inputs, tmp_path / "first", "bert", objective="mlm_nsp")
    second = run(
        inputs,
        tmp_path / "second",
        "bert",
        architecture=None,
        config_overrides=None,
        tokenizer_name_or_path=None,
        model_name_or_path=str(tmp_path / "first"),
        objective="mlm_nsp",
        max_steps=1,
    )
    ended, began = first["final_metrics"]["eval_loss"], second["final_metrics"]["eval_loss_before"]
    assert began == pytest.approx(ended, abs=1e-5)


def test_a_new_model_may_begin_with_the_embeddings_of_another(inputs: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    run(inputs, tmp_path / "first", "bert", objective="mlm", max_steps=2)
    record = run(
        inputs,
        tmp_path / "second",
        "bert",
        objective="mlm",
        embeddings_name_or_path=str(tmp_path / "first"),
        learning_rate=1e-9,
        max_steps=1,
    )
    key = "bert.embeddings.word_embeddings.weight"
    torch.testing.assert_close(
        weights(tmp_path / "second")[key], weights(tmp_path / "first")[key], rtol=0, atol=1e-7
    )
    assert record["model"]["copied_embeddings"] == len(AutoTokenizer.from_pretrained(tmp_path / "first"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "causl"}, "Did you mean 'causal'"),
        ({"objective": "span_corruption"}, "is trained with mlm, wwm, mlm_nsp, sop, span_mlm"),
        ({"architecture": "rberta"}, "Did you mean 'roberta'"),
        ({"model_size": "smal"}, "Did you mean 'small'"),
        ({"config_overrides": {"hiden_size": 3}}, "Did you mean 'hidden_size'"),
        ({"objective_kwargs": {"mlm_probabilty": 0.2}}, "Did you mean 'mlm_probability'"),
        ({"architecture": None, "config_name_or_path": "bertt", "objective": "mlm"}, "Did you mean 'bert'"),
        ({"architecture": None}, "it says which model is trained"),
        ({"tokenizer_name_or_path": None}, "a new model has no tokenizer"),
        ({"average_last": 4, "save_strategy": "steps"}, "raise save_total_limit"),
        ({"objective": "sop", "packing": False}, "which no packing changes"),
        ({"stages": [{"steps": 3}], "max_steps": 4}, "the stages have 3 steps"),
        ({"stages": [{"steps": 3, "weights": {"x": 1}}], "max_steps": None}, "is none of the datasets"),
        ({"stages": [{"block_length": 8}], "max_steps": None}, "the key 'steps' is missing"),
        ({"architecture": "roberta", "objective": "sop"}, "sop trains bert, spanbert, albert"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_way_out(
    inputs: dict[str, Any], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        run(inputs, tmp_path / "run", "bert", **options)


def test_a_block_longer_than_the_positions_is_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    overrides = {**SMALL["bert"], "max_position_embeddings": 16}
    with pytest.raises(UserError, match="set block_length to 16 or less"):
        run(inputs, tmp_path / "run", "bert", config_overrides=overrides)
