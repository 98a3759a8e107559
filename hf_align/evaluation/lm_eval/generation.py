"""Answers as a task of lm-eval wants them: its settings, and texts that end an answer.

Sampling knows tokens that end an answer. Texts that end one are looked for between pieces of growing length,
so that little is written in vain; what was written is then continued as a longer prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hf_align.errors import UserError
from hf_align.evaluation.answering import prompt_seed
from hf_align.evaluation.scoring import Scorer
from hf_align.sampling.answers import answer_of, draws_of
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling
from hf_align.sampling.stopping import stop_token_ids

DEFAULT_NEW_TOKENS = 256
"""Where a task does not say how long an answer may be, as in lm-eval."""
FIRST_PIECE = 32
"""Tokens that are written before the first look for texts that end an answer; the pieces then double."""
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Generation:
    """How a task wants answers written. ``until``: texts, any of which ends an answer."""

    sampling: Sampling
    until: tuple[str, ...]


def read_generation(given: Mapping[str, Any]) -> Generation:
    """``generation_kwargs`` of a task. Raises UserError for what is not done here."""
    options = dict(given)
    until = options.pop("until", None) or []
    stops = tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop)
    lengths = [options.pop(key) for key in _LENGTHS if options.get(key) is not None]
    given_temperature, drawn = options.pop("temperature", None), options.pop("do_sample", None)
    temperature = float(drawn is True) if given_temperature is None else float(given_temperature)
    if drawn is False:
        temperature = 0.0
    top_p, top_k = options.pop("top_p", None), options.pop("top_k", None)
    # One beam and one answer are what is done anyway.
    others = [key for key, value in options.items() if value not in (None, 1)]
    if others:
        raise UserError(
            f"lm_eval_tasks: a task asks for generation with {', '.join(others)}, which is not done here; "
            f"known are until, {', '.join(_LENGTHS)}, do_sample, temperature, top_p, top_k"
        )
    sampling = Sampling(
        int(lengths[0]) if lengths else DEFAULT_NEW_TOKENS,
        temperature,
        1.0 if top_p is None else float(top_p),
        int(top_k or 0),
    )
    return Generation(sampling, stops)


def written_texts(
    scorer: Scorer,
    prompts: Sequence[Sequence[int]],
    options: Generation,
    *,
    seed: int,
    max_rows: int,
    progress: Callable[[int], None],
) -> list[str]:
    """What the model writes behind each prompt, given as ids, up to the first text that ends an answer.

    ``max_rows``: answers written at once; changes results by rounding alone. What is drawn follows from
    ``seed`` and the prompt; a prompt that comes several times is drawn for anew each time. ``progress`` is
    called with numbers of answers that ended.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    draws = _draws(prompts, seed, options.sampling)
    stop_ids = stop_token_ids(scorer.model, scorer.tokenizer)
    waiting, written, limit = list(range(len(prompts))), 0, options.sampling.max_new_tokens

    def text(number: int) -> str:
        return answer_of(scorer.tokenizer, answers[number], stop_ids).text

    while waiting and written < limit:
        piece = min(max(FIRST_PIECE, written), limit - written)
        continuations = sample_continuations(
            scorer.model,
            [[*prompts[number], *answers[number]] for number in waiting],
            replace(options.sampling, max_new_tokens=piece),
            stop_ids=stop_ids,
            pad_token_id=int(scorer.tokenizer.pad_token_id),
            max_rows=max_rows,
            draws=draws[waiting, None, written : written + piece],
        )
        left = []
        for number, continuation in zip(waiting, continuations, strict=True):
            answers[number] += continuation.tokens.tolist()
            if not continuation.stopped and not any(stop in text(number) for stop in options.until):
                left.append(number)
        progress(len(waiting) - len(left))
        waiting, written = left, written + piece
    progress(len(waiting))
    return [_before(options.until, text(number)) for number in range(len(prompts))]


def _before(stops: Sequence[str], text: str) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _draws(prompts: Sequence[Sequence[int]], seed: int, sampling: Sampling) -> torch.Tensor:
    """(prompts, max_new_tokens): the n-th time that a prompt comes it gets the n-th of its draws."""
    times: dict[tuple[int, ...], list[int]] = {}
    for number, prompt in enumerate(prompts):
        times.setdefault(tuple(prompt), []).append(number)
    draws = torch.empty((len(prompts), sampling.max_new_tokens), dtype=torch.float64)
    for prompt, numbers in times.items():
        draws[numbers] = draws_of([prompt_seed(prompt, seed)], len(numbers), sampling.max_new_tokens)[0]
    return draws
