"""What a run that samples answers may go on with, and which prompts it asks."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_align.best_of_n.recipe import BestOfNOptions
from hf_align.best_of_n.run import continues, data_as_trained, marked_if_cut_short, that_fit
from hf_align.config import DataConfig
from hf_align.errors import UserError

IDENTITY = {"temperature": 1.0, "model_name_or_path": "weights", "rewards": {"length": "x"}}


def prompt(length: int) -> Any:
    return SimpleNamespace(ids=list(range(length)))


def test_prompts_without_room_for_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    prompts = [prompt(4), prompt(9), prompt(6)]
    assert that_fit(prompts, None, 5) == prompts and that_fit(prompts, 14, 5) == prompts
    with caplog.at_level(logging.WARNING):
        assert that_fit(prompts, 11, 5) == [prompts[0], prompts[2]]
    assert "1 of 3 prompts leave no room" in caplog.text
    with pytest.raises(UserError, match="the shortest prompt: 4 tokens"):
        that_fit(prompts, 8, 5)


def test_the_system_prompt_that_the_model_was_trained_with() -> None:
    data, source = DataConfig(datasets="a"), SimpleNamespace(recipe={"system_prompt": "s"})
    assert data_as_trained(data, source).system_prompt == "s"  # type: ignore[arg-type]
    own = DataConfig(datasets="a", system_prompt="t")
    assert data_as_trained(own, source) == own  # type: ignore[arg-type]
    assert data_as_trained(data, SimpleNamespace(recipe={})) == data  # type: ignore[arg-type]


def config(folder: Path, **options: Any) -> Any:
    return SimpleNamespace(
        training=SimpleNamespace(output_dir=str(folder)), best_of_n=BestOfNOptions(**options)
    )


def write(folder: Path, command: str = "best-of-n", sampled: bool = True, **identity: Any) -> None:
    content = {"command": command, "status": "interrupted", "identity": {**IDENTITY, **identity}}
    (folder / "run.json").write_text(json.dumps(content))
    if sampled:
        (folder / "samples.jsonl").write_text("")


def test_a_run_of_the_same_answers_goes_on(tmp_path: Path) -> None:
    assert not continues(config(tmp_path), IDENTITY)
    write(tmp_path)
    assert continues(config(tmp_path), IDENTITY)
    assert not continues(config(tmp_path, resume=False), IDENTITY)


def test_a_key_that_one_side_does_not_know_makes_no_other_answers(tmp_path: Path) -> None:
    write(tmp_path, packing=True, reward_functions=["other.py:length"])
    assert continues(config(tmp_path), {**IDENTITY, "a_key_of_now": 1})
    (tmp_path / "run.json").write_text(json.dumps({"command": "best-of-n", "status": "interrupted"}))
    with pytest.raises(UserError, match=r"cannot be gone on with: temperature was None and is 1\.0"):
        continues(config(tmp_path), IDENTITY)


@pytest.mark.parametrize(
    ("earlier", "words"),
    [
        ({"temperature": 0.5}, "temperature was 0.5 and is 1.0"),
        ({"model_name_or_path": "other"}, "they are of a model with other weights"),
        ({"rewards": {"length": "y"}}, r"scored by other rewards \(length\)"),
        ({"command": "sft"}, "holds a run of hf-align sft"),
    ],
)
def test_another_run_is_not_gone_on_with(tmp_path: Path, earlier: dict[str, Any], words: str) -> None:
    write(tmp_path, **earlier)
    with pytest.raises(UserError, match=words):
        continues(config(tmp_path), IDENTITY)
    if "command" not in earlier:
        (tmp_path / "samples.jsonl").unlink()
        assert continues(config(tmp_path), IDENTITY), "nothing was sampled yet"


def test_what_cuts_a_run_short_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noted: dict[str, Any] = {}
    record = SimpleNamespace(path=tmp_path / "run.json", main=True, update=noted.update)
    with pytest.raises(KeyboardInterrupt), marked_if_cut_short(record):  # type: ignore[arg-type]
        raise KeyboardInterrupt
    assert noted == {"status": "interrupted"} and "the same command goes on" in capsys.readouterr().err
    with pytest.raises(UserError, match="make room"), marked_if_cut_short(record):  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")
