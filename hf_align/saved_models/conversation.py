"""A conversation with a model: what was said so far, and the next answer.

Turns that cannot be answered, because the context is full or the template refuses them, leave the
conversation as it was. Reading input and showing answers belong to the command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_align.errors import UserError
from hf_align.sampling.answers import Answer
from hf_align.sampling.options import Sampling, chat_prompt_ids, context_length
from hf_align.sampling.stopping import stop_token_ids
from hf_align.sampling.streaming import Memory, stream_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ChatReply:
    """An answer, and what the reader should know about its end, or an empty string."""

    answer: Answer
    note: str


class Conversation:
    """``messages``: the turns so far, without the system prompt. ``system``: that prompt or None.

    Raises UserError for a tokenizer without a chat template and for a system prompt that it refuses.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        *,
        system: str | None = None,
    ) -> None:
        if not tokenizer.chat_template:
            raise UserError(
                f"{tokenizer.name_or_path}: this tokenizer has no chat template, so the model was not made "
                "for conversations. Give one with --chat_template_path: a Jinja file, or a shipped one "
                "(chatml, alpaca)."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.sampling = sampling
        self.stop_ids = stop_token_ids(model, tokenizer)
        self.limit = context_length(model, tokenizer)
        self.system: str | None = None
        self.messages: list[dict[str, str]] = []
        self.memory = Memory()
        self.set_system(system)

    def reset(self) -> None:
        """Forget the turns; the system prompt stays."""
        self.messages = []

    def set_system(self, system: str | None) -> None:
        """Start over with this system prompt, or with none.

        Raises UserError where the template refuses it.
        """
        if system is not None:
            chat_prompt_ids(self.tokenizer, [_turn("system", system), _turn("user", "a")])
        self.system = system
        self.messages = []

    def ask(self, prompt: str, on_text: Callable[[str], None]) -> ChatReply:
        """Answer ``prompt``; ``on_text`` gets the text piece by piece. The turn becomes part of the history.

        An interrupted answer stays as far as it went. Raises UserError, and changes nothing, where the
        conversation fills the context or the template refuses it.
        """
        messages = [*self.messages, _turn("user", prompt)]
        system = [] if self.system is None else [_turn("system", self.system)]
        ids = chat_prompt_ids(self.tokenizer, [*system, *messages])
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
        if answer.text or not answer.interrupted:
            self.messages = [*messages, _turn("assistant", answer.text)]
        return ChatReply(answer, self._note(answer, full=allowed < self.sampling.max_new_tokens))

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


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
