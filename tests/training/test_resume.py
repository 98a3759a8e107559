"""A resumed run is the run it continues, or is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_model
from helpers.tiny_runs import close_weights, make_inputs, merged_metrics, run, same_weights, steps

from hf_align.errors import UserError
from hf_align.sft.recipe import SftConfig
from hf_align.stages import recipe_class
from hf_align.training import resume, trainer
from hf_align.training.trainer import AlignTrainer

STEPS = {"save_strategy": "steps", "save_steps": 4, "save_total_limit": None, "eval_strategy": "epoch"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(inputs, folder, **STEPS)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.mark.parametrize(
    "broken", ["trainer_state.json", "model.safetensors", "optimizer.pt", "rng_state.pth"]
)
def test_a_half_written_checkpoint_is_set_aside_and_the_one_before_is_used(
    inputs: dict[str, Any], whole: Path, copy: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = copy / "checkpoint-12" / broken
    path.write_bytes(path.read_bytes()[:-40])
    run(inputs, copy, **STEPS, resume_from_checkpoint="auto")
    assert "checkpoint-12 is not a complete checkpoint" in caplog.text
    assert (copy / "incomplete-checkpoint-12" / broken).is_file()
    assert steps(copy) == [4, 8, 12]
    assert same_weights(copy, whole)
    assert merged_metrics(copy) == merged_metrics(whole)


@pytest.mark.parametrize("changed", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    inputs: dict[str, Any], whole: Path, copy: Path, changed: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = copy / "checkpoint-12" / changed
    content = bytearray(path.read_bytes())
    # A digit of the loss or a bit of a tensor: the file can be read as before.
    place = content.index(b'"loss": ') + 10 if changed.endswith(".json") else len(content) // 2
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=f"is damaged: {changed} is not as it was saved.*checkpoint-8"):
        run(inputs, copy, **STEPS, resume_from_checkpoint=str(path.parent))
    run(inputs, copy, **STEPS, resume_from_checkpoint="auto")
    assert f"checkpoint-12 is damaged ({changed} is not as it was saved)" in caplog.text
    assert (copy / "damaged-checkpoint-12" / changed).is_file()
    assert steps(copy) == [4, 8, 12]
    assert same_weights(copy, whole)


def test_going_back_to_an_earlier_checkpoint_writes_over_none(
    inputs: dict[str, Any], whole: Path, copy: Path
) -> None:
    kept = (copy / "checkpoint-8" / "model.safetensors").stat().st_ino
    run(inputs, copy, **STEPS, resume_from_checkpoint=str(copy / "checkpoint-4"))
    assert (copy / "later-checkpoint-8" / "model.safetensors").stat().st_ino == kept
    assert (copy / "later-checkpoint-12").is_dir()
    assert steps(copy) == [4, 8, 12]
    assert same_weights(copy, whole)
    assert merged_metrics(copy) == merged_metrics(whole)


def test_a_checkpoint_of_another_folder_starts_a_run_folder_of_its_own(
    inputs: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    run(inputs, tmp_path / "other", **STEPS, resume_from_checkpoint=str(whole / "checkpoint-8"))
    assert same_weights(tmp_path / "other", whole)
    assert steps(whole) == [4, 8, 12]


def test_an_incomplete_checkpoint_that_is_named_is_an_error_that_names_another(
    inputs: dict[str, Any], copy: Path
) -> None:
    (copy / "checkpoint-12" / "scheduler.pt").unlink()
    with pytest.raises(UserError, match=r"scheduler\.pt is missing.* beside it is .*checkpoint-8"):
        run(inputs, copy, **STEPS, resume_from_checkpoint=str(copy / "checkpoint-12"))


def test_an_evaluation_due_with_a_checkpoint_is_made_before_it(
    whole: Path, inputs: dict, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(inputs, folder, **{**STEPS, "save_steps": 3})
    state = json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text())
    assert [line["step"] for line in state["log_history"] if "eval_loss" in line][-1] == 6
    assert steps(folder) == [3, 6, 9, 12]


@pytest.mark.parametrize("stop", [{"max_steps": 9}, {"num_train_epochs": 1.5}], ids=str)
def test_a_run_killed_after_its_last_step_trains_no_further(
    inputs: dict[str, Any], tmp_path: Path, stop: dict[str, Any]
) -> None:
    # The last step, the 9th, lies inside the second epoch of 6 steps.
    folder = tmp_path / "run"
    options = {**STEPS, **stop}
    whole = run(inputs, folder, **options)
    again = Path(shutil.copytree(folder, tmp_path / "again"))
    (again / "model.safetensors").unlink()
    done = run(inputs, again, **options, resume_from_checkpoint="auto")
    assert same_weights(again, folder)
    assert done["final_metrics"] == whole["final_metrics"]
    assert merged_metrics(again) == merged_metrics(folder)


def test_means_over_several_steps_go_on_across_a_checkpoint(inputs: dict[str, Any], tmp_path: Path) -> None:
    # A line of metrics every 5 steps, a checkpoint at 4: the mean over 1 to 5 needs what came before.
    options = {**STEPS, "logging_steps": 5}
    whole = run(inputs, tmp_path / "whole", **options)
    part = Path(shutil.copytree(tmp_path / "whole", tmp_path / "part"))
    for step in (8, 12):
        shutil.rmtree(part / f"checkpoint-{step}")
    done = run(inputs, part, **options, resume_from_checkpoint="auto")
    assert merged_metrics(part) == merged_metrics(tmp_path / "whole")
    assert done["final_metrics"] == whole["final_metrics"]


def test_early_stopping_goes_on_counting(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sums of the evaluations are given: the second is the best, two worse ones follow it.
    sums = {6: 500.0, 12: 400.0, 18: 450.0, 24: 460.0}

    evaluate = AlignTrainer.evaluate
    now: list[int] = []

    def watched(self: AlignTrainer, *given: Any, **named: Any) -> dict[str, float]:
        now[:] = [self.state.global_step]
        return evaluate(self, *given, **named)

    def given(values: torch.Tensor, accelerator: Any) -> list[float]:
        # Loss and correct tokens, in evaluations behind the number of counted tokens.
        return [*[0.0] * (len(values) - 2), sums.get(now[0], 1e3), 0.0]

    monkeypatch.setattr(AlignTrainer, "evaluate", watched)
    monkeypatch.setattr(trainer, "sum_over_processes", given)
    options = {
        "num_train_epochs": 8,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": None,
        "load_best_model_at_end": True,
        "early_stopping_patience": 2,
    }
    whole = run(inputs, tmp_path / "whole", **options)
    last = whole["final_metrics"]["steps"]
    assert last == 24
    assert (tmp_path / "whole" / "checkpoint-12").is_dir()
    for resumed_from in (last - 6, last):
        part = Path(shutil.copytree(tmp_path / "whole", tmp_path / f"part{resumed_from}"))
        for step in steps(part):
            if step > resumed_from:
                shutil.rmtree(part / f"checkpoint-{step}")
        done = run(inputs, part, **options, resume_from_checkpoint="auto")
        assert done["final_metrics"] == whole["final_metrics"]
        assert same_weights(part, tmp_path / "whole")


def test_only_the_rows_of_a_step_count_not_how_they_are_accumulated(
    inputs: dict[str, Any], whole: Path, copy: Path
) -> None:
    for step in (8, 12):
        shutil.rmtree(copy / f"checkpoint-{step}")
    two = {"per_device_train_batch_size": 2, "resume_from_checkpoint": "auto"}
    with pytest.raises(UserError, match="an optimizer step had 4 rows and has 2"):
        run(inputs, copy, **STEPS, **two)
    run(inputs, copy, **STEPS, **two, gradient_accumulation_steps=2)
    assert same_weights(copy, whole)


def test_keys_of_speed_memory_and_outputs_may_change(inputs: dict[str, Any], whole: Path, copy: Path) -> None:
    for step in (8, 12):
        shutil.rmtree(copy / f"checkpoint-{step}")
    speed = {"packing": False, "max_tokens_per_batch": 100, "gradient_checkpointing": True}
    others = {"logging_steps": 3, "save_steps": 6, "dataset_cache": False, "run_name": "again"}
    run(inputs, copy, **{**STEPS, **speed, **others}, resume_from_checkpoint="auto")
    assert steps(copy) == [4, 6, 12]
    close_weights(copy, whole)


def other(value: Any) -> Any:
    """A value that is not ``value``."""
    if isinstance(value, list):
        return [*value, "x"]
    if isinstance(value, dict):
        return {**value, "x": 1}
    return not value if isinstance(value, bool) else f"{value}x"


@pytest.mark.parametrize("command", ["sft", "dpo", "kto", "reward", "classify", "pretrain", "ppo"])
def test_a_key_makes_another_run_where_it_says_so(tmp_path: Path, command: str) -> None:
    kind = recipe_class(command)
    recipe = {name: spec.default for name, spec in kind.keys().items()}
    checkpoint = stored(tmp_path, resume.run_identity(kind, recipe, "digest"))
    rows = kind.keys_that_change("step_rows")
    another = kind.keys_that_change("result", "loss", "inputs", "machine")
    for key in recipe:
        changed = 1000 if key in rows else other(recipe[key])
        now = resume.run_identity(kind, {**recipe, key: changed}, "digest")
        words = f"another run: ({key} was|an optimizer step had)" if key in (*another, *rows) else None
        refused(words, lambda now=now: resume.check_identity(checkpoint, now, force=False))


def refused(words: str | None, call: Callable[[], None]) -> None:
    """Raise AssertionError unless ``call`` is a user error of these words, or without words none."""
    if words is None:
        call()
        return
    with pytest.raises(UserError, match=words):
        call()


def old_identity(recipe: dict[str, Any]) -> dict[str, Any]:
    """As checkpoints have it that were written before keys said what they change."""
    return {
        "recipe": {key: value for key, value in recipe.items() if key != "max_tokens_per_batch"},
        "data": "digest",
        "rows_per_step": 8,
        "processes": 1,
        "max_tokens_per_batch": recipe["max_tokens_per_batch"],
    }


def test_older_checkpoints_go_on(tmp_path: Path) -> None:
    kind, model = recipe_class("dpo"), tiny_model("llama")
    recipe = {name: spec.default for name, spec in kind.keys().items()}
    checkpoint = stored(tmp_path, old_identity({**recipe, "a_key_of_then": 1}))

    def now(**changes: Any) -> dict[str, Any]:
        return resume.run_identity(kind, {**recipe, **changes}, "digest")

    resume.check_identity(checkpoint, now(share_prefix=False, max_tokens_per_batch=9), force=False)
    refused("beta was 0.1", lambda: resume.check_identity(checkpoint, now(beta=0.2), force=False))
    model.config.attention_dropout = 0.1
    resume.check_randomness(checkpoint, now(), model, noise=False, force=False)
    for changes, words in (
        ({"share_prefix": False}, "share_prefix was True and is False, and attention_dropout would draw"),
        ({"max_tokens_per_batch": 9}, "max_tokens_per_batch was 4096 and is 9"),
    ):
        refused(
            words,
            lambda changes=changes: resume.check_randomness(
                checkpoint, now(**changes), model, noise=False, force=False
            ),
        )


def test_entries_of_older_checkpoints_lack_later_keys(tmp_path: Path) -> None:
    kind = recipe_class("sft")
    recipe = {name: spec.default for name, spec in kind.keys().items()}
    entry = {"path": "a.txt", "split": "train", "columns": {"text": "a"}}
    checkpoint = stored(tmp_path, old_identity({**recipe, "datasets": [entry]}))

    def check(*entries: dict[str, Any]) -> None:
        now = resume.run_identity(kind, {**recipe, "datasets": list(entries)}, "digest")
        resume.check_identity(checkpoint, now, force=False)

    check({**entry, "text_unit": "line"})
    for changed in ({**entry, "split": "test"}, {**entry, "columns": {}}):
        refused("datasets was", lambda changed=changed: check(changed))
    refused("datasets was", lambda: check(entry, entry))


def identity(processes: int, budget: int = 100) -> dict[str, Any]:
    recipe = {
        "per_device_train_batch_size": 4 // processes,
        "gradient_accumulation_steps": 1,
        "max_tokens_per_batch": budget,
    }
    return resume.run_identity(SftConfig, recipe, "digest", processes=processes)


def stored(folder: Path, identity: dict[str, Any]) -> Path:
    checkpoint = folder / "checkpoint-3"
    checkpoint.mkdir(exist_ok=True)
    entry = {"args": {}, "attributes": {"identity": identity}}
    state = {"global_step": 3, "stateful_callbacks": {"RunIdentity": entry}}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    return checkpoint


def test_another_number_of_processes_is_allowed_where_it_is_exact(tmp_path: Path) -> None:
    checkpoint, model = stored(tmp_path, identity(2)), tiny_model("llama")
    now = identity(1)
    resume.check_identity(checkpoint, now, force=False)
    resume.check_randomness(checkpoint, now, model, noise=False, force=False)
    with pytest.raises(UserError, match="processes was 2 and is 1, and neftune_noise_alpha would draw"):
        resume.check_randomness(checkpoint, now, model, noise=True, force=False)
    model.config.attention_dropout = 0.1
    with pytest.raises(UserError, match="attention_dropout"):
        resume.check_randomness(checkpoint, now, model, noise=False, force=False)
    resume.check_randomness(checkpoint, now, model, noise=False, force=True)
    resume.check_randomness(checkpoint, identity(2), model, noise=False, force=False)
    with pytest.raises(UserError, match="max_tokens_per_batch was 100 and is 50"):
        resume.check_randomness(checkpoint, identity(2, budget=50), model, noise=False, force=False)


def test_parts_of_several_processes_need_as_many_again(tmp_path: Path) -> None:
    checkpoint = stored(tmp_path, identity(2))
    (checkpoint / "latest").write_text("global_step3")
    with pytest.raises(UserError, match="parts of 2 processes and cannot be continued by 1"):
        resume.check_randomness(checkpoint, identity(1), tiny_model("llama"), noise=False, force=True)


def test_what_draws_random_numbers_is_found() -> None:
    assert resume.parts_that_draw_random_numbers(tiny_model("llama")) == []
    model = torch.nn.Sequential(
        torch.nn.Dropout(0.0), torch.nn.ModuleDict({"hidden_drop": torch.nn.Dropout(0.1)})
    )
    assert resume.parts_that_draw_random_numbers(model) == ["hidden_drop"]
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        tiny_model("llama"), LoraConfig(r=2, lora_dropout=0.2, target_modules="all-linear")
    )
    assert resume.parts_that_draw_random_numbers(adapted) == ["lora_dropout"]
