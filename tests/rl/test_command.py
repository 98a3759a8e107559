"""``hf-align ppo`` on a tiny model: it learns, resumes to the same bits, and says what is wrong."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_rewards
from helpers.tiny_ppo import make_inputs, run
from helpers.tiny_runs import UNSTABLE, close_weights, same_weights, steps, weights

from hf_align.errors import UserError
from hf_align.rl import loop
from hf_align.rl.value_head import VALUE_FILE
from hf_align.runs.checkpoint_digests import write_digests
from hf_align.runs.metrics import read_metrics, rows_with, training_rows

SECONDS = ("sample_seconds", "score_seconds", "measure_seconds", "update_seconds")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def lines(folder: Path) -> list[dict[str, Any]]:
    rows = read_metrics(folder / "metrics.jsonl").rows
    return [
        {key: value for key, value in row.items() if key not in (*UNSTABLE, *SECONDS)}
        for row in [*training_rows(rows), *rows_with(rows, "eval_reward/total")]
    ]


def answers(folder: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in rows_with(read_metrics(folder / "samples.jsonl").rows, "samples")]


LOGGED = (
    "reward/total reward/letters score score_std kl token_kl kl_coef kl_penalty objective entropy approx_kl "
    "clip_fraction value_clip_fraction ratio policy_loss value_loss total_loss explained_variance eos_rate "
    "response_length grad_norm learning_rate update_steps episodes tokens_per_second peak_memory_bytes "
    "sampling_logp_difference values returns"
).split()


@pytest.mark.parametrize("whole", [True, False], ids=["full", "lora"])
def test_a_policy_learns_what_is_rewarded(tmp_path: Path, whole: bool) -> None:
    # Large embeddings, so that an adapter on the trunk alone can change the distribution.
    inputs = make_inputs(tmp_path, initializer_range=0.02 if whole else 0.3)
    rewards = tmp_path / "rewards.py"
    rewards.write_text(
        "def letters(prompts, completions, rows):\n"
        "    return [sum(c.isascii() and c.isalpha() for c in t) / max(len(t), 1) for t in completions]\n"
    )
    adapter = {} if whole else {"adapter": "lora", "lora_r": 8}
    learning_rate = 0.003 if whole else 0.01
    record = run(
        {**inputs, "reward_functions": f"{rewards}:letters"},
        tmp_path / "run",
        num_rollouts=25,
        rollout_batch_size=8,
        num_generations=4,
        num_ppo_epochs=4,
        kl_coef=0.01,
        learning_rate=learning_rate,
        save_strategy="no",
        **adapter,
    )
    rows = training_rows(read_metrics(tmp_path / "run" / "metrics.jsonl").rows)
    rewarded = [row["reward/total"] for row in rows]
    assert sum(rewarded[-3:]) / 3 > sum(rewarded[:3]) / 3 + 0.15, rewarded
    assert rows[0]["kl"] == 0 and rows[-1]["kl"] > 0
    assert set(LOGGED) <= set(rows[0])
    assert rows[0]["learning_rate"] == learning_rate
    assert rows[-1]["learning_rate"] == pytest.approx(learning_rate / 25)
    final = record["final_metrics"]
    assert final["eval_reward/total"] > final["eval_reward/total_before"]
    assert final["eval_kl_before"] == 0
    assert record["status"] == "completed" and record["start_check"]["kl_at_start"]["largest"] == 0
    assert [row["step"] for row in answers(tmp_path / "run")] == list(range(1, 26))
    sample = answers(tmp_path / "run")[-1]["samples"]
    assert sample[0]["reward"] >= sample[-1]["reward"] and sample[0]["parts"].keys() == {"letters"}
    assert (tmp_path / "run" / VALUE_FILE).is_file() and (tmp_path / "run" / "report.html").is_file()


RUNS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter": "lora", "lora_r": 4},
    "qlora": {"adapter": "lora", "lora_r": 4, "load_in_4bit": True, "optim": "adamw_8bit"},
    "own trunk": {"value_model": "separate", "value_head_init": "normal", "gradient_checkpointing": True},
    "own trunk, lora": {"value_model": "separate", "adapter": "lora", "lora_r": 4},
    "one answer a prompt": {"num_generations": 1, "temperature": 0.7, "top_p": 0.9, "top_k": 50},
    "padded": {"packing": False, "max_tokens_per_batch": 60},
    "a reward that draws": {"reward_functions": "noisy"},
}
STATEFUL = {
    "adaptive_kl": True,
    "target_kl": 0.01,
    "kl_horizon": 20,
    "normalize_scores": True,
    "score_clip": 2.0,
    "entropy_coef": 0.001,
    "missing_eos_penalty": 0.1,
    "whiten_rewards": True,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_steps": 2,
    "save_total_limit": None,
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_resumed_run_is_the_run_that_it_continues(
    inputs: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    options = {**RUNS[kind], **STATEFUL}
    if "reward_functions" in options:
        options["reward_functions"] = inputs["reward_functions"][0].replace("share_of_e", "noisy")
    whole = tmp_path / "whole"
    record = run(inputs, whole, **options)
    assert steps(whole) == [2, 4]
    part = Path(shutil.copytree(whole, tmp_path / "part"))
    shutil.rmtree(part / "checkpoint-4")
    for name in (VALUE_FILE, "report.html"):
        (part / name).unlink()
    again = run(inputs, part, **options, resume_from_checkpoint="auto")
    assert same_weights(part, whole)
    assert (part / VALUE_FILE).read_bytes() == (whole / VALUE_FILE).read_bytes()
    for name in ("optimizer.pt", "scheduler.pt"):
        ours, theirs = (torch.load(f / "checkpoint-4" / name) for f in (part, whole))
        assert _equal(ours, theirs), name
    assert lines(part) == lines(whole) and answers(part) == answers(whole)
    assert (part / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert again["final_metrics"] == record["final_metrics"]
    coefficients = [row["kl_coef"] for row in lines(whole) if "kl_coef" in row]
    assert len(set(coefficients)) == 4, "the controller moved"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def test_a_run_twice_gives_the_same_numbers(inputs: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(inputs, tmp_path / name, save_strategy="no")
    assert same_weights(tmp_path / "one", tmp_path / "two")
    assert lines(tmp_path / "one") == lines(tmp_path / "two")
    run(inputs, tmp_path / "three", save_strategy="no", seed=43)
    assert not same_weights(tmp_path / "one", tmp_path / "three")


def test_only_the_adapter_and_the_value_head_are_trained(inputs: dict[str, Any], tmp_path: Path) -> None:
    run(inputs, tmp_path / "run", adapter="lora", lora_r=4, save_strategy="no")
    assert set(weights(tmp_path / "run"))
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    trained, whole = saved["model"]["trainable_parameters"], saved["model"]["parameters"]
    assert trained < whole / 2
    assert saved["reference"] == {
        "kind": "adapter switched off",
        "model": inputs["model_name_or_path"],
    }
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run")
    assert any("lora" in name for name, _ in model.named_parameters())


def test_a_signal_saves_after_the_rollout_and_the_run_goes_on(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(inputs, tmp_path / "whole", save_strategy="no")
    inner = loop.score_episodes

    def interrupted(tools: Any, prompts: Any, episodes: Any) -> None:
        inner(tools, prompts, episodes)
        if len(answers(tmp_path / "run")) == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "score_episodes", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(inputs, tmp_path / "run", save_strategy="no")
    assert stopped.value.code == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert steps(tmp_path / "run") == [3]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted" and record["last_checkpoint"] == "checkpoint-3"
    run(inputs, tmp_path / "run", save_strategy="no", resume_from_checkpoint="auto")
    assert same_weights(tmp_path / "run", tmp_path / "whole")
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_older_checkpoints_go_and_a_broken_one_is_set_aside(inputs: dict[str, Any], tmp_path: Path) -> None:
    run(inputs, tmp_path / "run", save_steps=1, save_total_limit=2)
    assert steps(tmp_path / "run") == [3, 4]
    (tmp_path / "run" / "checkpoint-4" / "trainer_state.json").unlink()
    run(inputs, tmp_path / "run", save_steps=1, save_total_limit=2, resume_from_checkpoint="auto")
    assert (tmp_path / "run" / "incomplete-checkpoint-4").is_dir()
    assert steps(tmp_path / "run") == [3, 4]


def test_a_changed_reward_or_recipe_is_not_continued(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    run(inputs, tmp_path / "run", save_steps=2)
    resumed = {"save_steps": 2, "resume_from_checkpoint": str(tmp_path / "run" / "checkpoint-2")}
    with pytest.raises(UserError, match=r"clip_range was 0\.2 and is 0\.3"):
        run(inputs, tmp_path / "run", **resumed, clip_range=0.3)
    (tmp_path / "rewards.py").write_text("def share_of_e(prompts, completions, rows): return [0] * len(rows)")
    with pytest.raises(UserError, match="other rewards: share_of_e has changed"):
        run(inputs, tmp_path / "run", **resumed)
    run(inputs, tmp_path / "run", **resumed, force_resume=True)


def test_a_run_goes_on_with_other_keys_of_speed_and_memory(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, rows=4)
    options = {"save_steps": 1, "num_samples": 0, "num_rollouts": 2, "save_total_limit": None}
    run(inputs, tmp_path / "whole", **options)
    part = Path(shutil.copytree(tmp_path / "whole", tmp_path / "part"))
    shutil.rmtree(part / "checkpoint-2")
    speed = {"generation_batch_size": 2, "max_tokens_per_batch": 64, "packing": False}
    run(inputs, part, **options, **speed, record_limit=1, resume_from_checkpoint="auto")
    close_weights(part, tmp_path / "whole")


def test_a_checkpoint_of_another_stage_is_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    run(inputs, tmp_path / "run", save_steps=2)
    state = tmp_path / "run" / "checkpoint-4" / "trainer_state.json"
    content = json.loads(state.read_text())
    del content["ppo"]
    state.write_text(json.dumps(content))
    write_digests(state.parent)
    with pytest.raises(UserError, match="another stage"):
        run(inputs, tmp_path / "run", save_steps=2, resume_from_checkpoint="auto")


def test_a_prompt_without_room_is_named(inputs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"max_new_tokens: the prompt of .*jsonl:\d+ has .* 256 positions"):
        run(inputs, tmp_path / "run", max_new_tokens=250)


def test_texts_without_a_prompt_are_refused(inputs: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"A text, number {i}."}) for i in range(6)))
    with pytest.raises(UserError, match="plain text has no prompt"):
        run({**inputs, "datasets": str(path)}, tmp_path / "run")


def test_a_reward_that_fails_is_named_and_the_run_is_marked(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    (tmp_path / "rewards.py").write_text("def share_of_e(prompts, completions, rows): return [1.0]")
    with pytest.raises(UserError, match=r"rewards\.py:share_of_e returned 1 numbers for"):
        run(inputs, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_without_held_out_prompts(inputs: dict[str, Any], tmp_path: Path) -> None:
    record = run({**inputs, "eval_datasets": []}, tmp_path / "run", save_strategy="no")
    assert not any(key.startswith("eval_") for key in record["final_metrics"])
    assert [sorted(entry) for entry in record["generations"]] == [
        ["after", "after_stopped", "before", "before_stopped", "prompt", "reference", "source"]
    ]


def test_rows_held_out_of_the_training_data(inputs: dict[str, Any], tmp_path: Path) -> None:
    record = run({**inputs, "eval_datasets": []}, tmp_path / "run", eval_split_size=3, save_strategy="no")
    assert record["final_metrics"]["eval_answers"] == 3


def test_a_reward_model_and_a_function_weighted_with_values_that_start_from_the_model(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    judge = tiny_rewards.make_inputs(tmp_path)
    tiny_rewards.run(judge, tmp_path / "reward", num_train_epochs=1, save_strategy="no")
    record = run(
        inputs,
        tmp_path / "run",
        reward_model=str(tmp_path / "reward"),
        reward_weights=[2.0, -1.0],
        value_model="separate",
        value_model_name_or_path=str(tmp_path / "reward"),
        num_rollouts=2,
        save_strategy="no",
    )
    for row in training_rows(read_metrics(tmp_path / "run" / "metrics.jsonl").rows):
        expected = 2 * row["reward/reward"] - row["reward/share_of_e"]
        assert row["reward/total"] == pytest.approx(expected, abs=1e-6)
        assert row["values"] != 0, "the head of the reward model is kept"
    assert record["final_metrics"]["eval_reward/reward"] != 0
