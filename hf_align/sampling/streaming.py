"""One answer, token by token: passed on as text while it is written.

The tokens are chosen as in ``sampling``, in the caller's own thread, so that there is no thread to stop when
the caller is interrupted. A conversation keeps what the model has read (:class:`Memory`), so that its next
turn reads only what is new. What this leaves out: batches of prompts (``sampling``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from hf_align.modeling.growing_cache import cache_keyword, check_written, growing_cache, grows_everywhere
from hf_align.modeling.positions import longrope_bound
from hf_align.modeling.virtual_tokens import PromptedModel, count_virtual_tokens
from hf_align.sampling.answers import Answer, answer_of
from hf_align.sampling.options import Sampling
from hf_align.sampling.token_choice import check_finite, choose_tokens

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedTokenizerBase


@dataclass
class Memory:
    """What a model has read: ``ids``, and their keys and values in ``cache``; empty at first.

    Only what a new prompt has in common with ``ids``, from the first token on, is used again: a template may
    write an earlier turn anew, and text may be cut into other tokens than those that were sampled.
    """

    ids: list[int] = field(default_factory=list)
    cache: DynamicCache | None = None

    def take(self, prompt_ids: Sequence[int]) -> tuple[DynamicCache | None, int]:
        """(cache, how many of the ``prompt_ids`` it holds); None where there is nothing to go on from.

        The memory is empty afterwards: a cache is whole only between two answers (see :meth:`keep`).
        """
        ids, cache = self.ids, self.cache
        self.ids, self.cache = [], None
        # The last token is always read, since its logits choose the first one of the answer.
        most = min(len(ids), len(prompt_ids) - 1)
        known = next((i for i in range(most) if ids[i] != prompt_ids[i]), most)
        if cache is None or known == 0:
            return None, 0
        # Counted from the end: the other form is read differently by releases of transformers.
        cache.crop(known - len(ids))
        return cache, known

    def keep(self, ids: Sequence[int], cache: DynamicCache) -> None:
        """Remember that ``cache`` holds ``ids``, where it can be cut back: no window and no other state."""
        if grows_everywhere(cache):
            self.ids, self.cache = list(ids), cache


@torch.no_grad()
def stream_tokens(
    model: Any,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    memory: Memory | None = None,
) -> Iterator[int]:
    """The tokens that follow ``prompt_ids``, one at a time, the one that ends them included.

    ``model``: a causal language model in evaluation mode. Draws from torch's global generator. ``memory`` is
    read, and written when the last token has been taken.
    """
    if virtual := count_virtual_tokens(model):
        model = PromptedModel(model)
    cache, known = (None, 0) if memory is None else memory.take(prompt_ids)
    if cache is None:
        cache = growing_cache(model.config.get_text_config(), sampling.max_new_tokens)
    given: dict[str, Any] = {cache_keyword(model): cache}
    read = [int(token) for token in prompt_ids]
    bound = longrope_bound(model)
    for number in range(sampling.max_new_tokens):
        if bound is not None and 0 < known <= bound - virtual < len(read):
            # From here on positions are read otherwise, and so is everything before.
            cache, known = growing_cache(model.config.get_text_config(), sampling.max_new_tokens), 0
            given = {cache_keyword(model): cache}
        new = torch.tensor([read[known:]], device=model.device)
        output = model(
            input_ids=new,
            attention_mask=None,
            position_ids=torch.arange(known, len(read), device=model.device)[None],
            use_cache=True,
            logits_to_keep=1,
            **given,
        )
        check_written(model, cache)
        known = len(read)
        chosen, logps = choose_tokens(output.logits[:, -1].float(), sampling)
        check_finite(logps)
        token = int(chosen)
        if memory is not None and (token in stop_ids or number == sampling.max_new_tokens - 1):
            memory.keep(read, cache)
        yield token
        if token in stop_ids:
            return
        read.append(token)


def stream_answer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    on_text: Callable[[str], None],
    memory: Memory | None = None,
) -> Answer:
    """Answer one prompt; ``on_text`` is called with each new piece of text, in the same thread.

    A KeyboardInterrupt ends the answer and is not passed on. Draws from torch's global generator. The prompt
    and the answer have to fit into the model's context, see ``generation.context_length``. ``memory``: of the
    conversation, if it has one.
    """
    pieces = TextPieces(tokenizer)
    ids: list[int] = []
    interrupted = False
    try:
        for token in stream_tokens(model, prompt_ids, sampling, stop_ids=stop_ids, memory=memory):
            ids.append(token)
            if token not in stop_ids and (text := pieces.push(token)):
                on_text(text)
    except KeyboardInterrupt:
        interrupted = True
    if rest := pieces.flush():
        on_text(rest)
    return replace(answer_of(tokenizer, ids, stop_ids), interrupted=interrupted)


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
