"""The reward command from recipe to report, on tiny models; what it saves scores the same elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from helpers.tiny_rewards import make_inputs, run, write_pairs, write_rankings
from helpers.tiny_runs import merged_metrics, same_weights
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data import prepare_datasets
from hf_align.errors import UserError
from hf_align.saved_models.reward_scoring import load_reward_model, score_rows

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def texts(inputs: dict[str, Any]) -> list[str]:
    """Better and rejected answer of every held-out pair with their prompt, as the stage joins them."""
    rows = [json.loads(line) for line in Path(inputs["eval_datasets"]).read_text().splitlines()]
    return [row["prompt"] + row[kind] for row in rows for kind in ("chosen", "rejected")]


def plain_scores(folder: Path, inputs: dict[str, Any], side: str) -> np.ndarray:
    """Two calls of transformers, one padded batch: what a user of the saved model does."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = [text + tokenizer.eos_token for text in texts(inputs)]
    padded = tokenizer(batch, return_tensors="pt", padding=True, padding_side=side, add_special_tokens=False)
    with torch.no_grad():
        return model(**padded).logits[:, 0].numpy()


@pytest.mark.parametrize("adapter", [{}, LORA], ids=["full", "lora"])
def test_a_run_learns_and_its_folder_loads_in_one_call(inputs, tmp_path: Path, adapter: dict) -> None:
    folder = tmp_path / "run"
    result = run(inputs, folder, eval_strategy="epoch", learning_rate=0.01, **adapter)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed" and record["command"] == "reward"
    assert record["final_metrics"] == result["final_metrics"]
    metrics = record["final_metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"] - 0.2
    assert metrics["eval_rewards/accuracies"] == 1
    assert metrics["eval_rewards/margins"] == pytest.approx(
        metrics["eval_rewards/chosen"] - metrics["eval_rewards/rejected"], abs=1e-4
    )
    assert record["model"]["attention"] == "segments" and record["model"]["shared_prefixes"]
    evaluations = record["reward_evaluation"]
    assert evaluations["after"]["accuracy"] == 1 and evaluations["after"]["prompts"] == 5
    assert evaluations["before"]["accuracy"] == metrics["eval_rewards/accuracies_before"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == list(range(1, 13))
    assert all({"rewards/accuracies", "rewards/margins", "prompts"} <= line.keys() for line in logged)
    assert sum(line["prompts"] for line in logged) == 44
    assert "eval_ece" in next(line for line in lines if "eval_loss" in line)

    # The same scores by plain transformers, whatever the side of the padding.
    scores = [plain_scores(folder, inputs, side) for side in ("left", "right")]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-4)
    reference = record["reward_reference"]
    assert reference["mean"] == pytest.approx(scores[0].mean(), abs=1e-3)
    assert reference["std"] == pytest.approx(scores[0].std(), abs=1e-3)
    assert (reference["answers"], reference["source"]) == (10, "held-out answers")
    assert json.loads((folder / "config.json").read_text())["hf_align_reward"] == reference
    margins = scores[0][::2] - scores[0][1::2]
    assert metrics["eval_rewards/margins"] == pytest.approx(margins.mean(), abs=1e-3)

    # And by this package's own loader.
    loaded = load_reward_model(folder, dtype="float32", use_cpu=True)
    assert loaded.packed and loaded.reference == reference
    data = DataConfig(datasets=[DatasetConfig(inputs["eval_datasets"])])
    rows = prepare_datasets(data, loaded.tokenizer, seed=0, comparisons=True).train
    found = np.sort(score_rows(loaded, list(rows)))
    np.testing.assert_allclose(found, np.sort(scores[0]), rtol=1e-4, atol=1e-4)

    assert (folder / "README.md").read_text().startswith("---")
    assert "AutoModelForSequenceClassification" in (folder / "README.md").read_text()
    html = (folder / "report.html").read_text()
    assert "Reliability" in html and "Accuracy by difference in length" in html
    assert not [*folder.glob("*.bin"), *folder.glob("adapter/*.bin")]
    if adapter:
        assert record["model"]["trainable_parameters"] < record["model"]["parameters"] / 2
        assert (folder / "adapter" / "adapter_model.safetensors").is_file()
        assert record["merge"]["largest_score_difference"] < 1e-3
        assert not (folder / "adapter_config.json").exists()
        adapted = load_reward_model(folder / "adapter", dtype="float32", use_cpu=True)
        np.testing.assert_allclose(np.sort(score_rows(adapted, list(rows))), found, rtol=1e-4, atol=1e-4)


def test_the_head_is_trained_and_saved_with_the_adapter(inputs, tmp_path: Path) -> None:
    result = run(inputs, tmp_path / "run", save_merged=False, head_init="zero", num_train_epochs=1, **LORA)
    weights = load_file(tmp_path / "run" / "adapter_model.safetensors")
    head = next(weight for name, weight in weights.items() if name.endswith("score.weight"))
    assert head.abs().max() > 1e-4, "it began at zero"
    assert "merge" not in result and not (tmp_path / "run" / "model.safetensors").exists()
    assert "load_reward_model" in (tmp_path / "run" / "README.md").read_text()
    # A zero head gives every answer the score 0: ties, which are not right.
    assert result["reward_evaluation"]["before"]["ties"] == 1
    assert result["final_metrics"]["eval_rewards/accuracies_before"] == 0
    assert result["final_metrics"]["eval_loss_before"] == pytest.approx(np.log(2))
    loaded = load_reward_model(tmp_path / "run", dtype="float32", use_cpu=True)
    assert loaded.reference == result["reward_reference"]


def test_a_base_whose_pad_token_is_its_end_token(inputs, tmp_path: Path) -> None:
    base = Path(shutil.copytree(inputs["model_name_or_path"], tmp_path / "base"))
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    # What is left, <|endoftext|>, is written by the template, so that a new token is needed.
    tokenizer.chat_template += "<|endoftext|>"
    tokenizer.save_pretrained(base)
    result = run({**inputs, "model_name_or_path": str(base)}, tmp_path / "run", **LORA)
    assert result["model"]["pad_token"] == "<|pad|>"
    saved = AutoTokenizer.from_pretrained(tmp_path / "run")
    config = AutoConfig.from_pretrained(tmp_path / "run")
    assert saved.pad_token_id == config.pad_token_id == config.vocab_size - 1 != saved.eos_token_id
    assert saved.padding_side == "right"
    scores = plain_scores(tmp_path / "run", inputs, "right")
    np.testing.assert_allclose(plain_scores(tmp_path / "run", inputs, "left"), scores, rtol=1e-4, atol=1e-4)
    margins = scores[::2] - scores[1::2]
    assert result["final_metrics"]["eval_rewards/margins"] == pytest.approx(margins.mean(), abs=1e-3)


def test_qlora_saves_an_adapter_that_reloads_on_its_base(inputs, tmp_path: Path) -> None:
    options = {**LORA, "load_in_4bit": True, "lora_dropout": 0.1, "learning_rate": 0.01}
    result = run(inputs, tmp_path / "run", **options)
    assert result["final_metrics"]["eval_loss"] < result["final_metrics"]["eval_loss_before"]
    assert not (tmp_path / "run" / "model.safetensors").exists()
    loaded = load_reward_model(tmp_path / "run", use_cpu=True)
    assert loaded.model.is_loaded_in_4bit
    assert loaded.precision == "fp32", "as the run"
    data = DataConfig(datasets=[DatasetConfig(inputs["eval_datasets"])])
    rows = prepare_datasets(data, loaded.tokenizer, seed=0, comparisons=True).train
    scores = score_rows(loaded, list(rows))
    assert result["reward_reference"]["mean"] == pytest.approx(scores.mean(), abs=1e-3)
    assert result["reward_reference"]["std"] == pytest.approx(scores.std(), abs=1e-3)


def test_rankings_count_every_prompt_once(inputs, tmp_path: Path) -> None:
    ranked = {
        **inputs,
        "datasets": write_rankings(tmp_path / "train.jsonl", 12),
        "eval_datasets": write_rankings(tmp_path / "heldout.jsonl", 6, start=50),
    }
    result = run(ranked, tmp_path / "run", learning_rate=0.01, num_train_epochs=3)
    after = result["reward_evaluation"]["after"]
    # Six prompts: three with three pairs, three with two, whose lower answers tie.
    assert (after["prompts"], after["pairs"]) == (6, 15)
    assert result["final_metrics"]["eval_prompts"] == 6
    assert result["final_metrics"]["eval_loss"] < result["final_metrics"]["eval_loss_before"]
    assert result["reward_reference"]["answers"] == 18


def test_without_held_out_rows_the_reference_is_the_training_answers(inputs, tmp_path: Path) -> None:
    alone = {key: value for key, value in inputs.items() if key != "eval_datasets"}
    result = run(alone, tmp_path / "run", num_train_epochs=1)
    assert result["reward_reference"]["source"] == "training answers"
    assert result["reward_reference"]["answers"] == 44
    assert "reward_evaluation" not in result and "eval_loss" not in result["final_metrics"]
    assert (tmp_path / "run" / "report.html").is_file()


def test_packed_shared_and_padded_batches_train_the_same_model(inputs, tmp_path: Path) -> None:
    """In exact arithmetic nothing differs; in float32 rounding does, and a few steps of SGD keep it small."""
    options = {
        "optim": "sgd",
        "learning_rate": 0.05,
        "num_train_epochs": 1,
        "center_rewards_coefficient": 0.1,
    }
    run(inputs, tmp_path / "shared", **options)
    for name, change in (
        ("apart", {"share_prefix": False}),
        ("padded", {"packing": False}),
        ("cut", {"max_tokens_per_batch": 100}),
        ("accumulated", {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}),
    ):
        run(inputs, tmp_path / name, **{**options, **change})
        ours = load_file(tmp_path / name / "model.safetensors")
        for key, weight in load_file(tmp_path / "shared" / "model.safetensors").items():
            torch.testing.assert_close(ours[key], weight, rtol=1e-4, atol=1e-5, msg=f"{name}: {key}")


def test_an_earlier_reward_model_is_trained_on(inputs, tmp_path: Path) -> None:
    first = run(inputs, tmp_path / "first", learning_rate=0.01)
    again = run(
        {**inputs, "model_name_or_path": str(tmp_path / "first")}, tmp_path / "second", num_train_epochs=1
    )
    assert again["final_metrics"]["eval_loss_before"] == pytest.approx(
        first["final_metrics"]["eval_loss"], abs=1e-5
    )


def test_an_encoder_is_padded_and_pools_in_its_own_way(inputs, tmp_path: Path) -> None:
    base = tmp_path / "bert"
    tokenizer = tiny_tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "bert", vocab_size=len(tokenizer), max_position_embeddings=128, pad_token_id=0, **shape
    )
    AutoModelForMaskedLM.from_config(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    encoder = {**inputs, "model_name_or_path": str(base), "max_length": 128}
    result = run(encoder, tmp_path / "run", learning_rate=0.01, num_train_epochs=3, **LORA)
    assert result["model"]["attention"] == "padded" and not result["model"]["shared_prefixes"]
    assert result["final_metrics"]["eval_loss"] < result["final_metrics"]["eval_loss_before"] - 0.1
    # Pooler and classifier were random: trained, saved and merged.
    scores = plain_scores(tmp_path / "run", inputs, "right")
    margins = scores[::2] - scores[1::2]
    assert result["final_metrics"]["eval_rewards/margins"] == pytest.approx(margins.mean(), abs=1e-3)


def test_dropout_of_the_base_is_off_unless_asked_for(inputs, tmp_path: Path) -> None:
    base = save_tiny_checkpoint(tmp_path / "base", attention_dropout=0.5)
    options = {"num_train_epochs": 1, "eval_datasets": [], "save_strategy": "no"}
    noisy = {**inputs, "model_name_or_path": base, **options}
    losses = {}
    for name, change in (("off", {}), ("on", {"disable_dropout": False})):
        run({**noisy, **change}, tmp_path / name)
        losses[name] = json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    quiet = run({**inputs, **options}, tmp_path / "quiet")
    assert quiet["status"] == "completed"
    first = json.loads((tmp_path / "quiet" / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert losses["off"] == pytest.approx(first, rel=1e-6)
    assert losses["on"] != pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [{}, {**LORA, "lora_dropout": 0.1}, {**LORA, "load_in_4bit": True}],
    ids=["full", "lora", "qlora"],
)
def test_a_resumed_run_ends_with_the_same_bits(inputs, tmp_path: Path, options: dict) -> None:
    common = {"eval_strategy": "epoch", "save_strategy": "steps", "save_steps": 4, "save_total_limit": None}
    whole = run(inputs, tmp_path / "whole", **common, **options)
    part = Path(shutil.copytree(tmp_path / "whole", tmp_path / "part"))
    shutil.rmtree(part / "checkpoint-12")
    shutil.rmtree(part / "checkpoint-8")
    for name in ("model.safetensors", "adapter_model.safetensors"):
        (part / name).unlink(missing_ok=True)
    shutil.rmtree(part / "adapter", ignore_errors=True)
    resumed = run(inputs, part, **common, **options, resume_from_checkpoint="auto")
    assert same_weights(part, tmp_path / "whole")
    assert merged_metrics(part) == merged_metrics(tmp_path / "whole")
    for key in ("final_metrics", "reward_evaluation", "reward_reference"):
        assert resumed[key] == whole[key]


def test_bad_input_is_explained_before_anything_is_trained(inputs, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    same = tmp_path / "same.jsonl"
    same.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "b"}) + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    for change, message in (
        ({"datasets": str(tmp_path / "nothing.jsonl")}, "nothing.jsonl"),
        ({"datasets": str(wrong)}, "the rows are in the format prompt_completion"),
        ({"datasets": str(same)}, "answer 2 is the same as one that is better or worse"),
        ({"model_name_or_path": str(empty)}, "tokenizer could be loaded"),
        ({"max_length": 20}, "rows are longer than max_length = 20"),
        ({**LORA, "lora_target_modules": ["nothing"]}, "Linear layers of this model"),
    ):
        with pytest.raises(UserError, match=message):
            run(inputs, tmp_path / "run", **change)
        assert not list(tmp_path.glob("run/*.safetensors"))


def test_other_pairs_are_not_continued_from(inputs, tmp_path: Path) -> None:
    run(inputs, tmp_path / "run", num_train_epochs=1)
    other = write_pairs(tmp_path / "other.jsonl", 22, start=3)
    changed = {**inputs, "datasets": other, "num_train_epochs": 1, "resume_from_checkpoint": "auto"}
    with pytest.raises(UserError, match="the training rows have changed"):
        run(changed, tmp_path / "run")
