"""Runs of the grpo command: every algorithm is recorded, replayed to the bit, resumed and reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.recorded_ppo_runs import again_of
from helpers.tiny_grpo import run
from helpers.tiny_ppo import make_inputs
from helpers.tiny_runs import same_weights
from helpers.vllm_stub import serving

from hf_align.commands import grpo
from hf_align.rl.replay.breakdown import breakdowns
from hf_align.rl.replay.run import replay
from hf_align.rl.replay.view import as_recorded
from hf_align.rl.value_head import VALUE_FILE
from hf_align.runs.metrics import read_metrics, training_rows

KINDS: dict[str, dict[str, Any]] = {
    "grpo with lora": {"beta": 0.04, "adapter": "lora", "lora_r": 4, "num_iterations": 2},
    "grpo with qlora": {"adapter": "lora", "lora_r": 4, "load_in_4bit": True, "optim": "adamw_8bit"},
    "dapo": {
        "epsilon_high": 0.28,
        "dynamic_sampling": True,
        "soft_punish_cache": 4,
        "mask_truncated_completions": True,
        "num_iterations": 2,
        "num_mini_batches": 2,
    },
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "beta": 0.1},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none", "num_mini_batches": 2},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0, "scale_rewards": "batch", "num_iterations": 2},
    "rloo": {"algorithm": "rloo", "normalize_advantages": True, "num_iterations": 2},
    "reinforce": {"algorithm": "reinforce", "num_generations": 1, "baseline": "batch", "gamma": 0.9},
    "reinforce_pp": {"algorithm": "reinforce_pp", "baseline": "group", "num_iterations": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_replayed_to_the_bit_and_resumed(tmp_path: Path, kind: str) -> None:
    inputs, options = make_inputs(tmp_path), {"save_steps": 1, "save_total_limit": None, **KINDS[kind]}
    whole, part = tmp_path / "whole", tmp_path / "part"
    record = run(inputs, whole, num_rollouts=3, **options)
    assert record["status"] == "completed" and not (whole / VALUE_FILE).exists()
    assert "eval_reward/total_before" in record["final_metrics"]

    replayed = replay(whole, 3)
    assert as_recorded(replayed) and again_of(replayed).base.step == 2
    metrics, found = replayed.recording.metrics, breakdowns(replayed)
    assert sum(one.loss or 0 for one in found) == pytest.approx(metrics["total_loss"], rel=1e-4, abs=1e-6)
    assert grpo.main(["--replay", f"{whole}:3", "--episode", "2"])["differing"] == []

    shutil.copytree(whole, part)
    for later in ("checkpoint-2", "checkpoint-3"):
        shutil.rmtree(part / later)
    run(inputs, part, num_rollouts=3, **options, resume_from_checkpoint="auto")
    assert same_weights(part, whole)

    page = (whole / "report.html").read_text()
    card = (whole / "README.md").read_text()
    algorithm = options.get("algorithm", "grpo")
    assert {"grpo": "GRPO (loss_type", "rloo": "RLOO"}.get(algorithm, "REINFORCE") in page
    assert {"grpo": "group-relative", "rloo": "leave-one-out"}.get(algorithm, "REINFORCE") in card
    if kind != "reinforce":
        assert "Groups without signal" in page and "of the groups of 3 answers" in page


@pytest.mark.parametrize("kind", ["dr_grpo", "rloo"])
def test_advantages_of_a_group_cancel_out(tmp_path: Path, kind: str) -> None:
    options = {**KINDS[kind], "normalize_advantages": False} if kind == "rloo" else KINDS[kind]
    run(make_inputs(tmp_path), tmp_path / "run", num_rollouts=1, **options)
    found = breakdowns(replay(tmp_path / "run", 1))
    for prompt in range(1, 5):
        group = [one.advantage for one in found if one.prompt == prompt]
        assert len(group) == 3 and sum(group) == pytest.approx(0, abs=1e-5)


def test_equal_groups_are_drawn_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    (tmp_path / "rewards.py").write_text(
        "def same(prompts, completions, rows): return [1.0 for _ in completions]\n"
        "def first(prompts, completions, rows): return [float('e' in text) for text in completions]\n"
    )
    for name in ("same", "first"):
        chosen = inputs | {"reward_functions": f"{tmp_path / 'rewards.py'}:{name}"}
        options = {
            "num_rollouts": 2,
            "dynamic_sampling": True,
            "max_resamples": 2,
            "max_completion_length": 20,
        }
        folder = tmp_path / name
        run(chosen, folder, **options, num_generations=2)
        rows = training_rows(read_metrics(folder / "metrics.jsonl").rows)
        if name == "same":
            assert [(row["resampled_groups"], row["equal_groups"]) for row in rows] == [(8, 4)] * 2
            assert all(row["frac_reward_zero_std"] == 1 and row["policy_loss"] == 0 for row in rows)
            page = (folder / "report.html").read_text()
            assert "Groups were drawn again 16 times" in page and "8 stayed equal" in page
        else:
            del options["dynamic_sampling"], options["max_resamples"]
            run(chosen, tmp_path / "once", **options, num_generations=2)
            once = training_rows(read_metrics(tmp_path / "once" / "metrics.jsonl").rows)
            assert rows[0]["resampled_groups"] > 0
            assert rows[0]["frac_reward_zero_std"] < once[0]["frac_reward_zero_std"]
            assert as_recorded(replay(folder, 2))


def test_a_reward_is_learned(tmp_path: Path) -> None:
    options = {"rollout_batch_size": 8, "num_generations": 4, "num_rollouts": 12, "learning_rate": 0.01}
    run(make_inputs(tmp_path), tmp_path / "run", **options, lr_scheduler_type="constant")
    rows = training_rows(read_metrics(tmp_path / "run" / "metrics.jsonl").rows)
    rewards = [row["reward/total"] for row in rows]
    assert sum(rewards[-3:]) > 2 * sum(rewards[:3]), rewards


def test_what_null_stood_for_is_in_the_record(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(make_inputs(tmp_path), folder, num_rollouts=1)
    record = json.loads((folder / "run.json").read_text())
    assert record["command"] == "grpo" and record["recipe"]["beta"] == 0


def test_the_watch_rolls_a_hacked_run_back(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    (tmp_path / "rewards.py").write_text(
        "def pays_for_e(prompts, completions, rows): return [float(t.count('e')) for t in completions]\n"
        "def variety(prompts, completions, rows): return [len(set(t)) / (len(t) or 1) for t in completions]\n"
    )
    rewards = {"reward_functions": "pays_for_e", "watch_reward_functions": "variety"}
    named = {key: f"{tmp_path / 'rewards.py'}:{name}" for key, name in rewards.items()}
    options = {"rollout_batch_size": 8, "num_generations": 4, "num_iterations": 4, "num_rollouts": 14}
    options |= {"learning_rate": 0.01, "lr_scheduler_type": "constant", "save_steps": 1}
    options |= {"watch_action": "roll_back", "watch_window": 2, "watch_patience": 2}
    record = run(inputs | named, tmp_path / "run", **options)
    assert record["status"] == "rolled back"
    assert record["reward_watch"]["alarms"][0]["figure"] == "watch/variety"


@pytest.mark.parametrize("kind", ["dapo", "rloo"])
def test_answers_of_a_vllm_server_are_trained_on(tmp_path: Path, kind: str) -> None:
    inputs = make_inputs(tmp_path)
    options = {**KINDS[kind], "adapter": "lora", "lora_r": 4, "num_rollouts": 2}
    with serving(inputs["model_name_or_path"]) as stub:
        server = {"use_vllm": True, "vllm_server_base_url": stub.url}
        corrected = {"vllm_importance_sampling_correction": True}
        record = run(inputs, tmp_path / "run", **options, **server, **corrected)
        assert record["status"] == "completed" and stub.asked("/v1/load_lora_adapter")
    rows = training_rows(read_metrics(tmp_path / "run" / "metrics.jsonl").rows)
    assert all(row["importance_weight"] == pytest.approx(1, abs=1e-3) for row in rows)
    assert all(row["sampling_logp_difference_max"] < 1e-3 for row in rows)
    assert as_recorded(replay(tmp_path / "run", 2)), "a replay needs no server"
