"""Activation checkpointing by the name that the installed transformers has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from helpers.tiny_models import tiny_model

from hf_align.modeling.checkpointing import (
    checkpointing_arguments,
    disable_checkpointing,
    enable_checkpointing,
)


def test_a_model_recomputes_and_stops() -> None:
    model = tiny_model("llama")
    enable_checkpointing(model)
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    disable_checkpointing(model)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_the_older_names_are_used_where_there_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    older = SimpleNamespace(
        gradient_checkpointing_enable=lambda **kwargs: called.append(kwargs),
        gradient_checkpointing_disable=lambda: called.append("disabled"),
    )
    enable_checkpointing(older)
    disable_checkpointing(older)
    assert called == [{"gradient_checkpointing_kwargs": {"use_reentrant": False}}, "disabled"]

    older = SimpleNamespace(__dataclass_fields__={"gradient_checkpointing": None})
    monkeypatch.setitem(vars(transformers), "TrainingArguments", older)
    assert checkpointing_arguments()["gradient_checkpointing"] is True


def test_arguments_are_those_of_the_trainer(tmp_path: Any) -> None:
    made = transformers.TrainingArguments(str(tmp_path), use_cpu=True, **checkpointing_arguments())
    names = ("activation_checkpointing", "gradient_checkpointing")
    assert any(getattr(made, name, False) for name in names)
