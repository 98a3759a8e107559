"""A tokenizer's chat template: finding it, rendering with it, and checking that it can be trained on.

Where the answers stand in the rendered text is the business of ``spans``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.data.reading.raw import MalformedRow
from hf_align.errors import UserError, did_you_mean
from hf_align.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHIPPED_TEMPLATES = ("alpaca", "chatml", "hermes")
DAY = date(2024, 7, 26)
"""The day that Llama 3's template writes where it is told none."""
_TODAY = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")


@dataclass(frozen=True)
class ChatFormat:
    """What the masks need to know about a tokenizer and its chat template.

    ``generation_prompt``: what the template appends where the model is to answer, for example
    ``<|im_start|>assistant\\n``; empty where it appends nothing, None where that could not be determined.
    ``options``: what the template gets beside the turns, by name (``Example.template``).
    """

    tokenizer: PreTrainedTokenizerBase
    generation_prompt: str | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def for_row(self, template: str) -> ChatFormat:
        """The format of a row that hands ``template`` (a JSON object) to the chat template as well."""
        if not template:
            return self
        options = json.loads(template)
        plain = {name: value for name, value in options.items() if name != "tools"}
        prompt = _generation_prompt(self.tokenizer, plain) if plain else self.generation_prompt
        return ChatFormat(self.tokenizer, prompt, options)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as the template writes it. Errors: ``MalformedRow`` with the template's words."""
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [message.for_template() for message in messages],
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    **with_one_day(self.tokenizer),
                    **self.options,
                )
            )
        except Exception as error:  # a template is a program of its own, and may fail in any way
            detail = " ".join(str(error).split()) or type(error).__name__
            raise MalformedRow(f"the chat template refuses the conversation: {detail}") from error


def resolve_chat_template(name_or_path: str) -> str:
    """The text of a shipped template (``SHIPPED_TEMPLATES``) or of a Jinja file.

    Errors: ``UserError`` where it is neither, is not UTF-8, or is empty.
    """
    if name_or_path in SHIPPED_TEMPLATES:
        return (resources.files("hf_align.data") / "templates" / f"{name_or_path}.jinja").read_text("utf-8")
    path = Path(os.path.expanduser(name_or_path))
    if not path.is_file():
        raise UserError(
            f"chat_template_path: '{name_or_path}' is neither a file nor the name of a shipped template "
            f"({', '.join(SHIPPED_TEMPLATES)})." + did_you_mean(name_or_path, SHIPPED_TEMPLATES)
        )
    try:
        template = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"chat_template_path: {path} cannot be read as UTF-8 text: {error}") from error
    if not template.strip():
        raise UserError(f"chat_template_path: {path} is empty; expected a Jinja template.")
    return template


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ``UserError`` for a tokenizer that cannot say which characters a token covers."""
    if not tokenizer.is_fast:
        raise UserError(
            f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} is a slow (pure Python) "
            "one, which cannot tell which characters a token covers; expected a fast one (tokenizer.json)."
        )


def chat_format(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    """The chat format of a tokenizer.

    Errors: ``UserError`` for a slow tokenizer, and where it has no chat template or one that is no valid
    Jinja.
    """
    import jinja2

    require_fast(tokenizer)
    named = tokenizer.name_or_path or type(tokenizer).__name__
    if not tokenizer.chat_template:
        raise UserError(
            f"The tokenizer {named} has no chat template, and the data has conversations. Set "
            f"`chat_template_path` to a Jinja file or to a shipped template: {', '.join(SHIPPED_TEMPLATES)}."
        )
    try:
        return ChatFormat(tokenizer, _generation_prompt(tokenizer, {}))
    except jinja2.TemplateSyntaxError as error:
        raise UserError(
            f"The chat template of {named} is not valid Jinja: line {error.lineno}: {error.message}"
        ) from error


def with_one_day(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """For a template that writes today's date: a day that is always the same, so that rows do not change by
    night.

    Another day can be had by what the template reads, such as ``chat_template_kwargs: {date_string: 1 May
    2025}``.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str) or "strftime_now" not in template:
        return {}
    return {"chat_template": _TODAY.sub(lambda call: repr(DAY.strftime(call[2])), template)}


def _generation_prompt(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> str | None:
    """What the template appends where the model is to answer; None where that cannot be determined.

    Raises jinja2.TemplateSyntaxError.
    """
    import jinja2

    probe = [{"role": "user", "content": "a"}]
    keywords: dict[str, Any] = {"tokenize": False, **with_one_day(tokenizer), **options}
    try:
        plain = str(tokenizer.apply_chat_template(probe, **keywords))
        prompted = str(tokenizer.apply_chat_template(probe, add_generation_prompt=True, **keywords))
    except jinja2.TemplateSyntaxError:
        raise
    except Exception:  # it may refuse this probe and accept the data's conversations
        return None
    return prompted[len(plain) :] if prompted.startswith(plain) else None
