"""A conversation with a model: what was said so far, and the next answer.

Turns that cannot be answered, because the context is full or the template refuses them, leave the
conversation as it was. Reading input, showing answers and running the tools that one calls belong to the
command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_align.data.chat.calls import TAG, Call, written_calls
from hf_align.data.conversion.reshaping import BETWEEN
from hf_align.errors import UserError
from hf_align.sampling.answers import Answer
from hf_align.sampling.options import Sampling, chat_prompt_ids, context_length
from hf_align.sampling.stopping import stop_token_ids
from hf_align.sampling.streaming import Memory, stream_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ChatReply:
    """An answer, and what the reader should know about its end, or an empty string. ``calls``: of tools,
    whose results the model waits for."""

    answer: Answer
    note: str
    calls: tuple[Call, ...] = ()


class Conversation:
    """``messages``: the turns so far, without the system prompt. ``system``: that prompt or None. ``fold``:
    whether it stands in the user's first turn. ``tools``: what the model may call, as JSON schemas.

    Raises UserError for a tokenizer without a chat template, for one that does not write the tools, and for
    a system prompt that it refuses.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        *,
        system: str | None = None,
        fold: bool = False,
        tools: Sequence[dict[str, Any]] = (),
    ) -> None:
        if not tokenizer.chat_template:
            raise UserError(
                f"{tokenizer.name_or_path}: this tokenizer has no chat template, so the model was not made "
                "for conversations. Give one with --chat_template_path: a Jinja file, or a shipped one "
                "(chatml, hermes, alpaca)."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.stop_ids = stop_token_ids(model, tokenizer)
        self.limit = context_length(model, tokenizer)
        self.system: str | None = None
        self.messages: list[dict[str, Any]] = []
        self.memory = Memory()
        self.fold = fold
        self.tools = list(tools)
        self._check_tools()
        self.set_system(system)

    def reset(self) -> None:
        """Forget the turns; the system prompt stays."""
        self.messages = []

    def set_system(self, system: str | None) -> None:
        """Start over with this system prompt, or with none.

        Raises UserError where the template refuses it.
        """
        if system is not None:
            turns = self._with_system(system, [_turn("user", "a")])
            chat_prompt_ids(self.tokenizer, turns, self.tools)
        self.system = system
        self.messages = []

    def ask(self, prompt: str, on_text: Callable[[str], None]) -> ChatReply:
        """Answer ``prompt``; ``on_text`` gets the text piece by piece. The turn becomes part of the history.

        An interrupted answer stays as far as it went. Raises UserError, and changes nothing, where the
        conversation fills the context or the template refuses it.
        """
        return self._answer([*self.messages, _turn("user", prompt)], on_text)

    def tell(self, results: Sequence[tuple[str, str]], on_text: Callable[[str], None]) -> ChatReply:
        """As :meth:`ask`, for results of the calls in the last answer: (name of the tool, what it gave)."""
        turns = [_turn("tool", result) | {"name": name} for name, result in results]
        return self._answer([*self.messages, *turns], on_text)

    def _answer(self, messages: list[dict[str, Any]], on_text: Callable[[str], None]) -> ChatReply:
        ids = chat_prompt_ids(self.tokenizer, self._with_system(self.system, messages), self.tools)
        room = self._room(len(ids))
        allowed = min(room, self.sampling.max_new_tokens)
        answer = stream_answer(
            self.model,
            self.tokenizer,
            ids,
            replace(self.sampling, max_new_tokens=allowed),
            stop_ids=self.stop_ids,
            on_text=on_text,
            memory=self.memory,
        )
        calls = written_calls(answer.text) if self.tools and not answer.interrupted else []
        if answer.text or not answer.interrupted:
            self.messages = [*messages, _answer_turn(answer.text, calls)]
        note = self._note(answer, full=allowed < self.sampling.max_new_tokens)
        return ChatReply(answer, note, tuple(calls))

    def _check_tools(self) -> None:
        """Raise UserError where the chat template leaves out a tool."""
        ids = chat_prompt_ids(self.tokenizer, [_turn("user", "a")], self.tools) if self.tools else []
        text = str(self.tokenizer.decode(ids))
        for tool in self.tools:
            name = str(tool.get("function", tool).get("name"))
            if name not in text:
                raise UserError(
                    f"tools: the chat template does not write the tool {name!r}, so the model would not know "
                    "of it. Take a model that was trained with tools, or give a template that writes them, "
                    "such as --chat_template_path hermes."
                )

    def _with_system(self, system: str | None, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The turns, which begin with one of the user, behind the system prompt or with it in front."""
        if system is None:
            return turns
        if self.fold:
            first = turns[0] | {"content": f"{system}{BETWEEN}{turns[0]['content']}"}
            return [first, *turns[1:]]
        return [_turn("system", system), *turns]

    def _room(self, used: int) -> int:
        """Tokens that the answer may take."""
        if self.limit is None:
            return self.sampling.max_new_tokens
        if used >= self.limit:
            raise UserError(
                f"The conversation with this turn takes {used:,} tokens; the model's context holds "
                f"{self.limit:,} with the answer. The turn was left out: shorten it, or start over with "
                "/reset."
            )
        return self.limit - used

    def _note(self, answer: Answer, *, full: bool) -> str:
        if answer.interrupted:
            kept = "what was said stays in the conversation" if answer.text else "the turn was left out"
            return f"[interrupted; {kept}]"
        if answer.stopped:
            return "" if answer.text.strip() else "[an empty answer]"
        if full:
            return (
                f"[cut off after {answer.tokens:,} tokens: the context of {self.limit:,} tokens is full; "
                "/reset starts over]"
            )
        return f"[cut off after {answer.tokens:,} tokens: --max_new_tokens allows more]"


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _answer_turn(text: str, calls: Sequence[Call]) -> dict[str, Any]:
    """The assistant's turn: with its calls as templates read them, or as it was written where one cannot be
    read."""
    if not calls or any(call.problem for call in calls):
        return _turn("assistant", text)
    before = text.partition(TAG)[0].strip() if TAG in text else ""
    made = [
        {"type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls
    ]
    return _turn("assistant", before) | {"tool_calls": made}
