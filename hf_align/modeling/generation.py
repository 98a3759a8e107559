"""Answers written token by token: one conversation at a time, passed on as text while they are generated.

transformers calls the streamer between two tokens in the caller's own thread, so that there is no thread to
stop when the caller is interrupted. Batches of prompts are answered in ``training.samples``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hf_align.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNLIMITED = 10**9
"""Tokenizers without a limit give an absurdly large one."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the likeliest one at temperature 0, else drawn from the ``top_p`` nucleus.

    ``top_k``: of the likeliest tokens only; 0 for all.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class Answer:
    """``text`` without special tokens; ``stopped``: the model ended it; ``tokens``: how many it took;
    ``interrupted``: Ctrl-C ended it."""

    text: str
    stopped: bool
    tokens: int
    interrupted: bool = False


class TextPieces:
    """Token ids in, text out as soon as it is final.

    A token can end inside a character, and decoding a token alone loses the space before it, so each piece is
    the difference between two decodings that begin at the same token. ``ids`` holds all tokens so far.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self._anchor = 0
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that ``token`` completes; often empty."""
        self.ids.append(token)
        text = self._decode(self._anchor, len(self.ids))
        return "" if text.endswith("\ufffd") else self._advance(text)

    def flush(self) -> str:
        """What is left, where the last token ends inside a character."""
        return self._advance(self._decode(self._anchor, len(self.ids)))

    def _advance(self, text: str) -> str:
        piece = text[len(self._decode(self._anchor, self._shown)) :]
        if piece:
            self._anchor, self._shown = self._shown, len(self.ids)
        return piece

    def _decode(self, start: int, stop: int) -> str:
        return str(self.tokenizer.decode(self.ids[start:stop], skip_special_tokens=True))


class _Listener:
    """A streamer of transformers: called with the prompt first, then with each new token."""

    def __init__(self, pieces: TextPieces, stop_ids: Sequence[int], on_text: Callable[[str], None]) -> None:
        self.pieces = pieces
        self.stop_ids = set(stop_ids)
        self.on_text = on_text
        self.prompt_seen = False
        self.stopped = False

    def put(self, value: torch.Tensor) -> None:
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        for token in value.flatten().tolist():
            if token in self.stop_ids:
                self.stopped = True
            elif text := self.pieces.push(token):
                self.on_text(text)

    def end(self) -> None:
        """Called when generation ends; what is left is passed on by ``stream_answer``."""


@torch.no_grad()
def stream_answer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    on_text: Callable[[str], None],
) -> Answer:
    """Answer one prompt; ``on_text`` is called with each new piece of text, in the same thread.

    A KeyboardInterrupt ends the answer and is not passed on. Draws from torch's global generator. The prompt
    and the answer have to fit into the model's context, see :func:`context_length`.
    """
    pieces = TextPieces(tokenizer)
    listener = _Listener(pieces, stop_ids, on_text)
    # top_k: transformers' own default keeps 50 tokens and would narrow top_p without a word.
    choice: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        choice = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        }
    ids = torch.tensor([list(prompt_ids)], dtype=torch.long, device=model.device)
    interrupted = False
    try:
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(stop_ids) or None,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
            streamer=listener,
            **choice,
        )
    except KeyboardInterrupt:
        interrupted = True
    if rest := pieces.flush():
        on_text(rest)
    text = str(tokenizer.decode(pieces.ids, skip_special_tokens=True))
    return Answer(text, listener.stopped, len(pieces.ids) + listener.stopped, interrupted)


def chat_prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> list[int]:
    """The ids of a conversation as the chat template writes it, up to where the model is to answer.

    Raises UserError where the template refuses it.
    """
    try:
        rendered = tokenizer.apply_chat_template(
            list(messages), tokenize=True, add_generation_prompt=True, return_dict=True
        )
    except Exception as error:  # a template is a program of its own, and may fail in any way
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the chat template refuses the conversation: {detail}") from error
    return [int(token) for token in rendered["input_ids"]]


def context_length(model: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The most tokens, prompt and answer together, that the model was made for; None where it is not said."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    if isinstance(limit, int) and limit > 0:
        return limit
    return tokenizer.model_max_length if 0 < tokenizer.model_max_length < UNLIMITED else None
