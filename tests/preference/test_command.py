"""The dpo command from recipe to report, on a tiny model: every loss, resuming bit for bit."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoint import write_orders
from helpers.tiny_preferences import LORA, SHORT, make_inputs, run, write_pairs, write_rankings
from helpers.tiny_runs import close_weights, merged_metrics, same_weights

from hf_align.errors import UserError
from hf_align.losses import PAIRWISE_LOSSES

QLORA = {**LORA, "load_in_4bit": True, "optim": "adamw_8bit", "precision": "bf16"}
START = {
    "dpo": math.log(2),
    "robust": math.log(2),
    "hinge": 1.0,
    "ipo": 25.0,
    "exo_pair": 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1),
    "discopop": (math.log(2) + 1) / 2,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "nca_pair": 2 * math.log(2),
    "sppo_hard": 50.0,
    "aot": math.log(2),
    "aot_unpaired": math.log(2),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # 64 wide: bitsandbytes' 4-bit blocks hold 64 weights.
    return make_inputs(tmp_path_factory.mktemp("inputs"), hidden_size=64)


@pytest.mark.parametrize("options", [{}, LORA, QLORA], ids=["full", "lora", "qlora_nf4"])
def test_a_run_learns_and_leaves_a_whole_run_folder(inputs, tmp_path: Path, options: dict) -> None:
    folder = tmp_path / "run"
    result = run(inputs, folder, eval_strategy="epoch", num_samples=2, **options)
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "completed" and record["command"] == "dpo"
    assert record["final_metrics"] == result["final_metrics"]
    final, summary = record["final_metrics"], record["preference_summary"]
    assert final["eval_loss"] < final["eval_loss_before"] - 0.1
    assert final["eval_rewards/margins"] > 0.3 and final["eval_rewards/accuracies"] == 1.0
    assert summary["before"]["prompts"] == summary["after"]["prompts"] == 5
    assert summary["after"]["likelihood_accuracy"] == 1.0 and "likelihood_accuracy" in summary["before"]
    assert record["start_check"]["checked"] and record["start_check"]["expected"] == math.log(2)
    assert set(record["start_check"]["found"]) == {"held-out rows", "first step"}
    kind = "adapter switched off" if options else "run beforehand"
    assert (record["reference"]["kind"], record["reference"]["model"]) == (
        kind,
        inputs["model_name_or_path"],
    )
    assert {"before", "after"} <= record["generations"][0].keys()
    assert record["generations"][0]["reference"].endswith("."), "the chosen answer"
    (first, *_), lines = merged_metrics(folder), merged_metrics(folder)
    names = "rewards/chosen rewards/rejected rewards/margins rewards/accuracies logps/chosen logps/rejected "
    names += "logps/chosen_change kl pairwise_loss"
    assert set(names.split()) <= first.keys() and first["prompts"] == 4
    assert any({f"eval_{name}" for name in names.split()} <= line.keys() for line in lines)
    assert 'id="preferences"' in (folder / "report.html").read_text()
    assert "preference optimisation" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(PAIRWISE_LOSSES))
def test_every_loss_of_the_table_trains(inputs, tmp_path: Path, name: str, caplog: Any) -> None:
    options: dict[str, Any] = {"beta": 2.0} if name == "simpo" else {}
    options |= {"sft_weight": 1.0} if name == "orpo" else {}
    options |= {"label_smoothing": 0.1} if name == "exo_pair" else {}
    for adapter in ({}, LORA):
        caplog.clear()
        result = run(inputs, tmp_path / f"run{len(adapter)}", loss=name, **SHORT, **options, **adapter)
        final = result["final_metrics"]
        assert final["eval_loss"] < final["eval_loss_before"]
        assert final["eval_rewards/margins"] > final["eval_rewards/margins_before"]
        check = result["start_check"]
        if name in START:
            assert check["expected"] == pytest.approx(START[name])
            assert check["found"] == pytest.approx({"held-out rows": START[name], "first step": START[name]})
        else:
            assert result["reference"] == {"kind": "none", "model": None}
            assert not check["checked"] and "no value that theory gives" in check["why"]
            assert "not compared with theory" in caplog.text
            assert "eval_kl" not in final
    if name == "orpo":
        assert final["eval_loss"] == pytest.approx(final["eval_pairwise_loss"] + final["eval_sft_loss"])


def test_a_new_loss_is_one_function_and_one_entry(inputs, tmp_path: Path, monkeypatch: Any) -> None:
    from hf_align.losses import PairwiseLoss, log_ratios

    def squared(policy: Any, reference: Any, *, beta: float) -> torch.Tensor:
        chosen, rejected = log_ratios(policy, reference)
        return (1 - beta * (chosen - rejected)) ** 2

    monkeypatch.setitem(
        PAIRWISE_LOSSES, "squared", PairwiseLoss(squared, True, ("beta",), at_start=lambda **_: 1.0)
    )
    result = run(inputs, tmp_path / "run", loss="squared", beta=0.3, **SHORT, **LORA)
    assert result["start_check"]["found"] == pytest.approx({"held-out rows": 1.0, "first step": 1.0})
    assert result["final_metrics"]["eval_rewards/margins"] > 0


@pytest.mark.parametrize(
    "options",
    [
        {"f_divergence_type": "forward_kl", "learning_rate": 0.002},
        {"f_divergence_type": "js_divergence", "loss": "hinge"},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 2.0},
        {"ld_alpha": 0.2},
        {"ld_alpha": 0.0, "loss": "apo_zero"},
    ],
    ids=str,
)
def test_other_divergences_and_lengths_start_and_train_alike(inputs, tmp_path: Path, options: dict) -> None:
    result = run(inputs, tmp_path / "run", **{**SHORT, **LORA, **options})
    assert result["start_check"]["checked"]
    final = result["final_metrics"]
    assert final["eval_loss"] < final["eval_loss_before"]


def test_weighed_pairs_have_no_known_loss_at_the_start(inputs, tmp_path: Path) -> None:
    options = {"use_weighting": True, "sft_weight": 0.1, **SHORT, **LORA}
    result = run(inputs, tmp_path / "run", **options)
    assert "use_weighting" in result["start_check"]["why"] and not result["start_check"]["checked"]
    final = result["final_metrics"]
    # Random models write nothing in particular: a pair of answers weighs little.
    assert 0 < final["eval_pairwise_loss_before"] < math.log(2)
    assert final["eval_rewards/margins"] > 0


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_pairs_are_sorted_over_the_whole_step(inputs, tmp_path: Path, name: str) -> None:
    options = {"loss": name, **SHORT, "optim": "sgd", "learning_rate": 0.01, "precision": "fp32", "beta": 0.5}
    run(inputs, tmp_path / "whole", **options)
    run(inputs, tmp_path / "cut", **options, max_tokens_per_batch=1)
    close_weights(tmp_path / "cut", tmp_path / "whole")
    for line, other in zip(*map(merged_metrics, (tmp_path / "whole", tmp_path / "cut")), strict=True):
        assert line.get("loss", 0) == pytest.approx(other.get("loss", 0), rel=1e-4)


def test_several_losses_are_weighted(inputs, tmp_path: Path) -> None:
    options = {"loss": ["dpo", "ipo", "hinge"], "loss_weights": [2.0, 0.01, 0.5], "beta": 0.5}
    result = run(inputs, tmp_path / "run", **options, **SHORT, **LORA)
    # 2 ln 2 + 0.01 * (1 / (2 * 0.5))^2 + 0.5
    assert result["start_check"]["expected"] == pytest.approx(2 * math.log(2) + 0.01 + 0.5)
    assert result["start_check"]["checked"]


def test_rankings_of_several_answers_train(inputs, tmp_path: Path) -> None:
    data = {
        "datasets": write_rankings(tmp_path / "train.jsonl", 10),
        "eval_datasets": write_rankings(tmp_path / "heldout.jsonl", 3, start=50),
    }
    result = run({**inputs, **data}, tmp_path / "run", **SHORT)
    assert result["start_check"]["found"]["first step"] == pytest.approx(math.log(2), abs=1e-5)
    assert result["preference_summary"]["after"]["prompts"] == 3
    assert result["final_metrics"]["eval_rewards/margins"] > 0


def test_the_layout_of_batches_changes_nothing(inputs, tmp_path: Path) -> None:
    options = {**SHORT, "optim": "sgd", "learning_rate": 0.1}
    run(inputs, tmp_path / "shared", **options)
    for name, layout in (
        ("separate", {"share_prefix": False}),
        ("padded", {"packing": False}),
        ("cut", {"max_tokens_per_batch": 90}),
    ):
        result = run(inputs, tmp_path / name, **options, **layout)
        assert result["model"]["attention"] == ("padded" if name == "padded" else "segments")
        close_weights(tmp_path / name, tmp_path / "shared")


def test_an_int8_base_rounds_as_half_precision_does(inputs, tmp_path: Path) -> None:
    options = {**SHORT, **LORA, "load_in_8bit": True, "precompute_ref_log_probs": True}
    result = run(inputs, tmp_path / "run", **options)
    found = list(result["start_check"]["found"].values())
    assert len(found) == 2 and found == pytest.approx([math.log(2)] * 2, abs=2e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "ipo"},
        {**LORA, "lora_dropout": 0.2},
        {**LORA, "precompute_ref_log_probs": True, "loss": ["dpo", "orpo"], "sft_weight": 0.5},
        QLORA,
    ],
    ids=["full", "lora", "lora_precomputed", "qlora"],
)
def test_a_resumed_run_ends_with_the_same_bits(inputs, tmp_path: Path, options: dict, caplog: Any) -> None:
    # 6 steps an epoch; the checkpoint at 4 lies inside the first one.
    common = {"save_strategy": "steps", "save_steps": 4, "save_total_limit": None, "eval_strategy": "epoch"}
    whole = tmp_path / "whole"
    first = run(inputs, whole, **common, **options)
    part = Path(shutil.copytree(whole, tmp_path / "part"))
    for step in (8, 12):
        shutil.rmtree(part / f"checkpoint-{step}")
    caplog.clear()
    done = run(inputs, part, **common, **options, resume_from_checkpoint="auto")
    assert same_weights(part, whole)
    assert merged_metrics(part) == merged_metrics(whole)
    assert done["final_metrics"] == first["final_metrics"]
    assert done["preference_summary"] == first["preference_summary"]
    assert done["start_check"] == first["start_check"], "what was found when the run began"
    assert "the run is resumed" in caplog.text
    # In a folder of its own there is nothing to remember.
    elsewhere = run(
        inputs, tmp_path / "new", **common, **options, resume_from_checkpoint=str(whole / "checkpoint-8")
    )
    assert same_weights(tmp_path / "new", whole)
    assert "the run is resumed" in elsewhere["start_check"]["why"]


def test_another_loss_is_another_run(inputs, tmp_path: Path) -> None:
    common = {"save_strategy": "steps", "save_steps": 4, "resume_from_checkpoint": "auto"}
    run(inputs, tmp_path / "run", **common)
    with pytest.raises(UserError, match=r"loss was \['dpo'\] and is \['ipo'\]"):
        run(inputs, tmp_path / "run", **common, loss="ipo")
    run(inputs, tmp_path / "run", **common, chosen_fall_warning=None, reference_cache=False)


def test_a_run_goes_on_with_other_keys_of_speed_and_memory(inputs, tmp_path: Path) -> None:
    common = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8, "num_samples": 0}
    run(inputs, tmp_path / "whole", **common)
    part = Path(shutil.copytree(tmp_path / "whole", tmp_path / "part"))
    shutil.rmtree(part / "checkpoint-8")
    speed = {"share_prefix": False, "packing": False, "max_tokens_per_batch": 256, "reference_cache": False}
    run(inputs, part, **common, **speed, resume_from_checkpoint="auto")
    close_weights(part, tmp_path / "whole")


def test_dropout_is_off_unless_it_is_asked_for(tmp_path: Path, caplog: Any) -> None:
    inputs = make_inputs(tmp_path, attention_dropout=0.3)
    result = run(inputs, tmp_path / "off", **SHORT)
    assert result["start_check"]["found"]["first step"] == pytest.approx(math.log(2), abs=1e-6)
    result = run(inputs, tmp_path / "on", **SHORT, disable_dropout=False)
    assert "attention_dropout in the forward pass" in result["start_check"]["first step"]
    assert set(result["start_check"]["found"]) == {"held-out rows"}
    assert result["final_metrics"]["eval_loss"] != pytest.approx(math.log(2))


def test_without_held_out_rows(inputs, tmp_path: Path) -> None:
    result = run({**inputs, "eval_datasets": []}, tmp_path / "run", **SHORT)
    assert set(result["preference_summary"]) == {"chosen_fall"}
    assert result["start_check"]["found"] == pytest.approx({"first step": math.log(2)})
    assert 'id="preferences"' in (tmp_path / "run" / "report.html").read_text()


def test_a_stream_is_trained_on(inputs, tmp_path: Path) -> None:
    result = run(inputs, tmp_path / "run", streaming=True, max_steps=6, save_strategy="no", **LORA)
    assert result["final_metrics"]["steps"] == 6
    assert result["final_metrics"]["eval_loss"] < result["final_metrics"]["eval_loss_before"]


def test_gradient_checkpointing_changes_nothing(inputs, tmp_path: Path) -> None:
    options = {**SHORT, **LORA, "optim": "sgd", "learning_rate": 1.0}
    run(inputs, tmp_path / "plain", **options)
    run(inputs, tmp_path / "saving", **options, gradient_checkpointing=True)
    close_weights(tmp_path / "saving", tmp_path / "plain")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "orpo"}, "orpo without sft_weight"),
        ({"loss": "robust"}, "robust with label_smoothing 0 is dpo"),
        # The first logged change of a run whose answers get likelier is 0.
        ({"chosen_fall_warning": 1e-9, "learning_rate": 0.3}, "have lost .* nats per token"),
    ],
    ids=["orpo", "robust", "fall"],
)
def test_what_is_probably_not_meant_is_said(
    inputs, tmp_path: Path, options: dict, message: str, caplog: Any
) -> None:
    caplog.set_level(logging.WARNING)
    run(inputs, tmp_path / "run", **{**SHORT, **options})
    assert re.search(message, caplog.text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name_or_path": "models/no-such-model"}, "make model"),
        ({"ref_model_name_or_path": "models/no-such-model"}, "ref_model_name_or_path: .*no-such-model"),
        ({**LORA, "lora_target_modules": ["q_prj"]}, "q_proj"),
        ({"datasets": "nowhere.jsonl"}, r"nowhere\.jsonl"),
        ({"max_length": 9}, "max_length"),
        ({"loss": "dppo"}, "Did you mean 'dpo'"),
    ],
    ids=str,
)
def test_mistakes_are_user_errors(
    inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(inputs, tmp_path / "run", **options)


def test_data_of_another_kind_are_refused(inputs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"orders\.jsonl"):
        run({**inputs, "datasets": write_orders(tmp_path / "orders.jsonl", 8)}, tmp_path / "run")
    same = tmp_path / "same.jsonl"
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "So."}
    same.write_text(f"{json.dumps(row)}\n" * 8 + Path(write_pairs(tmp_path / "p.jsonl", 3)).read_text())
    with pytest.raises(UserError, match=r"identical|same"):
        run({**inputs, "datasets": str(same)}, tmp_path / "run")


def test_the_saved_adapter_gives_what_training_measured(inputs, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    result = run(inputs, tmp_path / "run", **{**SHORT, **LORA, "num_samples": 1, "sample_max_new_tokens": 4})
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    entry = result["generations"][0]
    ids = tokenizer(entry["prompt"], add_special_tokens=False, return_tensors="pt")
    output = model.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(output, skip_special_tokens=True) == entry["after"]
