"""A reward that can be hacked is caught by the watch: it warns, stops or rolls back, and spares others."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_ppo import make_inputs, run
from helpers.tiny_runs import same_weights, steps

from hf_align.errors import UserError
from hf_align.rl.value_head import VALUE_FILE
from hf_align.runs.metrics import read_metrics, rows_with, training_rows

REWARDS = """
def pays_for_e(prompts, completions, rows):
    return [float(text.count("e")) for text in completions]

def variety(prompts, completions, rows):
    return [len(set(text)) / max(len(text), 1) for text in completions]

def letters(prompts, completions, rows):
    return [sum(c.isascii() and c.isalpha() for c in t) / max(len(t), 1) for t in completions]

def words(prompts, completions, rows):
    return [float(sum(c.isalnum() for c in text)) for text in completions]
"""
ROLLOUTS = 14
OPTIONS: dict[str, Any] = {
    "num_rollouts": ROLLOUTS,
    "rollout_batch_size": 8,
    "num_generations": 4,
    "num_ppo_epochs": 4,
    "kl_coef": 0.0,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "num_samples": 0,
    "save_steps": 1,
    "save_total_limit": None,
    "watch_window": 2,
    "watch_patience": 2,
}


def judged(folder: Path, reward: str, watch: str) -> dict[str, Any]:
    """Recipe keys: a tiny model that is trained on one of the rewards and watched with another."""
    inputs = make_inputs(folder)
    rewards = folder / "rewards.py"
    rewards.write_text(REWARDS, encoding="utf-8")
    return {
        **inputs,
        "reward_functions": [f"{rewards}:{reward}"],
        "watch_reward_functions": [f"{rewards}:{watch}"],
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The hackable reward: it pays for every e, and the policy finds that it need write nothing else."""
    return judged(tmp_path_factory.mktemp("inputs"), "pays_for_e", "variety")


@pytest.fixture(scope="module")
def warned(
    inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    """A whole run that is only warned: its folder, its record, and what was logged."""
    folder = tmp_path_factory.mktemp("warned") / "run"
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("hf_align.rl.watch.actions")
    logger.addHandler(handler)
    try:
        record = run(inputs, folder, **OPTIONS)
    finally:
        logger.removeHandler(handler)
    return folder, record, "\n".join(said)


def part_of(warned: Path, folder: Path, last: int) -> Path:
    """The run as a kill after rollout ``last`` would have left it."""
    part = Path(shutil.copytree(warned, folder))
    for step in steps(part):
        if step > last:
            shutil.rmtree(part / f"checkpoint-{step}")
    for name in ("model.safetensors", VALUE_FILE, "report.html"):
        (part / name).unlink()
    return part


def before_the_alarm(record: dict[str, Any]) -> int:
    """A rollout at which the limit was passed already, but not for long enough."""
    return int(record["reward_watch"]["alarms"][0]["rollout"]) - 1


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What is compared of the logged rollouts."""
    rows = training_rows(read_metrics(folder / "metrics.jsonl").rows)
    names = ("step", "reward/total", "watch/variety", "watch_std/variety", "repetition", "kl")
    return [{name: row[name] for name in names} for row in rows]


def test_a_hacked_reward_is_caught(warned: tuple[Path, dict[str, Any], str]) -> None:
    folder, record, said = warned
    (alarm,) = record["reward_watch"]["alarms"]
    rows = {row["step"]: row for row in metrics(folder)}
    fired, then = alarm["rollout"], alarm["then"]
    assert alarm["figure"] == "watch/variety" and 4 <= fired <= ROLLOUTS and then < alarm["since"] <= fired
    assert rows[fired]["reward/total"] > 3 * rows[then]["reward/total"], "the reward rose"
    assert rows[fired]["watch/variety"] < 0.85 * rows[then]["watch/variety"], "the answers got worse"
    window = [rows[step]["watch/variety"] for step in (fired - 1, fired)]
    assert alarm["now"] == pytest.approx(sum(window) / 2)
    # It is said, with the evidence.
    assert said.count("the reward may be hacked") == 1
    assert f"rollout {fired}: " in said and "'variety' has fallen" in said and "kl_coef" in said
    assert alarm["samples"][0]["answer"].split()[0] in said
    # It is kept: curves, and answers with a high reward that the other reward thinks little of.
    assert alarm["curves"]["watch/variety"] == [rows[s]["watch/variety"] for s in range(1, fired + 1)]
    assert alarm["curves"]["reward/total"] == [rows[s]["reward/total"] for s in range(1, fired + 1)]
    sample = alarm["samples"][0]
    assert sample["reward"] == sample["answer"].count("e") > rows[fired]["reward/total"]
    assert sample["watch"]["variety"] < rows[then]["watch/variety"]
    # A warning changes nothing about the run.
    assert record["status"] == "completed" and "message" not in record
    assert record["reward_watch"]["ended"] is None
    assert (
        record["final_metrics"]["eval_watch/variety"] < record["final_metrics"]["eval_watch/variety_before"]
    )
    page = (folder / "report.html").read_text()
    assert "Training reward against watch reward" in page and "the watch fired" in page
    assert f"fired at rollout {fired}" in page


def test_watching_changes_nothing_about_training(
    inputs: dict[str, Any], warned: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    alone = {key: value for key, value in inputs.items() if key != "watch_reward_functions"}
    record = run(alone, tmp_path / "run", **{**OPTIONS, "num_rollouts": 4})
    assert same_weights(tmp_path / "run" / "checkpoint-4", warned[0] / "checkpoint-4")
    assert record["reward_watch"]["rewards"] == []
    row = training_rows(read_metrics(tmp_path / "run" / "metrics.jsonl").rows)[-1]
    assert "repetition" in row and not any(key.startswith("watch") for key in row)


def test_a_resumed_run_is_watched_as_if_it_had_never_stopped(
    inputs: dict[str, Any], warned: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    folder, record, _ = warned
    part = part_of(folder, tmp_path / "part", before_the_alarm(record))
    again = run(inputs, part, **OPTIONS, resume_from_checkpoint="auto")
    assert again["reward_watch"] == record["reward_watch"]
    assert metrics(part) == metrics(folder) and same_weights(part, folder)
    assert (
        _state(part, ROLLOUTS) == _state(folder, ROLLOUTS) and len(_state(part, ROLLOUTS)["rows"]) == ROLLOUTS
    )


def _state(folder: Path, step: int) -> dict[str, Any]:
    state = json.loads((folder / f"checkpoint-{step}" / "trainer_state.json").read_text())
    watch: dict[str, Any] = state["ppo"]["watch"]
    return watch


def test_stop_saves_and_ends_the_run(
    inputs: dict[str, Any], warned: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    fired = warned[1]["reward_watch"]["alarms"][0]["rollout"]
    part = part_of(warned[0], tmp_path / "part", before_the_alarm(warned[1]))
    stop = {**OPTIONS, "watch_action": "stop", "resume_from_checkpoint": "auto"}
    record = run(inputs, part, **stop)
    assert record["status"] == "stopped" and steps(part)[-1] == fired < ROLLOUTS
    assert record["message"].startswith(f"the reward-hacking watch ended this run at rollout {fired}: ")
    assert record["final_metrics"]["rollouts"] == fired and metrics(part)[-1]["step"] == fired
    assert same_weights(part, part / f"checkpoint-{fired}")
    assert "The reward-hacking watch ended this run" in (part / "report.html").read_text()
    assert "reward-hacking watch ended" in (part / "README.md").read_text()

    # Continued as it is, it would go on hacking.
    with pytest.raises(UserError, match=r"ended this run at rollout \d+.* Set watch_action: warn"):
        run(inputs, part, **stop)
    assert json.loads((part / "run.json").read_text())["status"] == "stopped"


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_again_or_goes_on(
    inputs: dict[str, Any], warned: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    fired = warned[1]["reward_watch"]["alarms"][0]["rollout"]
    part = part_of(warned[0], tmp_path / "part", before_the_alarm(warned[1]))
    stop = {**OPTIONS, "watch_action": "stop", "resume_from_checkpoint": "auto"}
    run(inputs, part, **stop)
    # Cut off between the alarm and the end, it ends where it should have.
    content = json.loads((part / "run.json").read_text())
    content["reward_watch"]["ended"] = None
    (part / "run.json").write_text(json.dumps(content | {"status": "running"}))
    ended = run(inputs, part, **stop)
    assert ended["status"] == "stopped" and ended["final_metrics"]["rollouts"] == fired

    # Its user may decide otherwise.
    on = run(inputs, part, **{**stop, "watch_action": "warn"})
    assert on["status"] == "completed" and on["final_metrics"]["rollouts"] == ROLLOUTS and "message" not in on
    assert same_weights(part, warned[0])


def test_roll_back_ends_with_the_last_good_checkpoint(
    inputs: dict[str, Any], warned: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    whole, alarm = warned[0], warned[1]["reward_watch"]["alarms"][0]
    folder = tmp_path / "run"
    # Few checkpoints are kept, and the one to go back to is among them.
    record = run(inputs, folder, **{**OPTIONS, "watch_action": "roll_back", "save_total_limit": 1})
    good = alarm["since"] - 2
    assert steps(folder)[-1] == good > 0
    assert record["status"] == "rolled back"
    assert record["reward_watch"]["ended"] == {
        "action": "roll_back",
        "rollout": alarm["rollout"],
        "checkpoint": f"checkpoint-{good}",
    }
    assert f"and took it back to checkpoint-{good}" in record["message"]
    # The result is the policy of that checkpoint, with its values; the same as without the watch's hand.
    for other in (folder, whole):
        assert same_weights(folder, other / f"checkpoint-{good}")
        assert (folder / VALUE_FILE).read_bytes() == (other / f"checkpoint-{good}" / VALUE_FILE).read_bytes()
    final = record["final_metrics"]
    assert (final["rollouts"], final["episodes"]) == (good, 32 * good)
    then = next(row for row in metrics(folder) if row["step"] == good)
    assert final["reward/total"] == then["reward/total"] and final["kl"] == then["kl"]
    # What came after it is kept for a look, and never taken for a checkpoint.
    assert (folder / f"later-checkpoint-{alarm['rollout']}").is_dir()
    assert [row["step"] for row in metrics(folder)] == list(range(1, alarm["rollout"] + 1))
    with pytest.raises(UserError, match="force_resume: true"):
        run(inputs, folder, **{**OPTIONS, "watch_action": "roll_back", "resume_from_checkpoint": "auto"})
    # Something else is tried from there.
    changed = {"watch_action": "roll_back", "kl_coef": 1.0, "num_rollouts": good + 1, "force_resume": True}
    other = run(inputs, folder, **{**OPTIONS, **changed, "resume_from_checkpoint": "auto"})
    assert other["status"] == "completed" and other["final_metrics"]["rollouts"] == good + 1


def test_an_honest_reward_raises_no_alarm(tmp_path: Path) -> None:
    record = run(judged(tmp_path, "letters", "words"), tmp_path / "run", **{**OPTIONS, "num_rollouts": 10})
    rows = rows_with(read_metrics(tmp_path / "run" / "metrics.jsonl").rows, "watch/words")
    rewarded = [row["reward/total"] for row in rows if "reward/total" in row]
    assert rewarded[-1] > rewarded[0] + 0.2, "it learned"
    assert record["reward_watch"]["alarms"] == [] and record["status"] == "completed"


@pytest.mark.slow
def test_without_an_earlier_checkpoint_the_run_ends_as_it_is(
    inputs: dict[str, Any], warned: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    start = {
        "resume_from_checkpoint": str(warned[0] / f"checkpoint-{before_the_alarm(warned[1])}"),
        "watch_action": "roll_back",
    }
    record = run(inputs, folder, **{**OPTIONS, **start})
    fired = warned[1]["reward_watch"]["alarms"][0]["rollout"]
    assert record["status"] == "stopped" and record["final_metrics"]["rollouts"] == fired
    assert record["reward_watch"]["ended"]["checkpoint"] is None


def test_a_watch_reward_that_fails_is_named_by_its_key(tmp_path: Path) -> None:
    inputs = judged(tmp_path, "letters", "words")
    (tmp_path / "broken.py").write_text("def half(prompts, completions, rows): return [1.0]\n")
    watch = {"watch_reward_functions": f"{tmp_path / 'broken.py'}:half"}
    with pytest.raises(UserError, match=r"^watch_reward_functions: .*broken\.py:half returned 1 numbers"):
        run({**inputs, **watch}, tmp_path / "run")
    missing = {"watch_reward_functions": f"{tmp_path / 'broken.py'}:whole"}
    with pytest.raises(UserError, match=r"^watch_reward_functions: .*has no function 'whole'"):
        run({**inputs, **missing}, tmp_path / "other")
