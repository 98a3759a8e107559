"""Options of chat: from the command line alone, and with the user's home in paths."""

from __future__ import annotations

import pytest

from hf_align.commands.chat_recipe import ChatConfig
from hf_align.config import load_config
from hf_align.errors import UserError


def test_a_model_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    config = load_config(ChatConfig, ["--model_name_or_path", "~/run", "--base_model", "~/base"])
    assert (config.model.model_name_or_path, config.chat.base_model) == (
        "/home/someone/run",
        "/home/someone/base",
    )
    assert config.chat.system_prompt is None


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("temperature", "-1", "at least 0"), ("top_p", "0", "above 0"), ("max_new_tokens", "0", "at least 1")],
)
def test_limits(option: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=f"--{option}: .*{message}"):
        load_config(ChatConfig, ["--model_name_or_path", "m", f"--{option}", value])
