"""lm-eval on models of ours: its tasks, prompts and metrics; our engine answers its three kinds of requests.

The one file that imports lm-eval. Tokens are those of its own Hugging Face class, so that log-likelihoods
agree with it: context and continuation are split where it splits them, what is too long loses tokens on the
left, and rolling windows have its sizes. Prompts are computed once for all their continuations, which that
class does not do. What is left out: caching of answers, several processes, encoder-decoder models, and
tasks that run code which a model wrote. How answers are written is in ``generation``, what becomes of
the results in ``metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval import __version__ as VERSION
from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from hf_align.errors import UserError, did_you_mean
from hf_align.evaluation.lm_eval.generation import Generation, read_generation, written_texts
from hf_align.evaluation.recipe import LmEvalConfig
from hf_align.evaluation.scoring import Scorer, Scores
from hf_align.sampling.options import context_length
from hf_align.types import ComparisonRow, TokenizedRow

DEFAULT_CONTEXT = 2048
"""Of models that do not say theirs, as in lm-eval."""
Bar = Callable[[str, str, int | None], AbstractContextManager[Callable[[int], None]]]
_Sequence = tuple[tuple[int, ...], tuple[int, ...]]


class EngineLM(TemplateLM):  # type: ignore[misc]
    """A model of lm-eval around a scorer. ``bar`` makes progress bars; ``seed``: of what is drawn."""

    def __init__(self, scorer: Scorer, *, seed: int, max_rows: int, bar: Bar) -> None:
        super().__init__()
        self.scorer = scorer
        self.tokenizer = scorer.tokenizer
        self.max_length = context_length(scorer.model, scorer.tokenizer) or DEFAULT_CONTEXT
        self.seed = seed
        self.max_rows = max_rows
        self.bar = bar

    @property
    def eot_token_id(self) -> int:
        return self._known(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        bos = self.tokenizer.bos_token_id
        return self._known(self.tokenizer.eos_token_id if bos is None else bos)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @staticmethod
    def _known(token: Any) -> int:
        if not isinstance(token, int):
            raise UserError(
                "lm_eval_tasks: the tokenizer names no token that ends or begins a text, which lm-eval needs"
            )
        return token

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        if add_special_tokens is None:
            # A text that a chat template has rendered may begin with the token already.
            add_special_tokens = not string.startswith(str(self.tokenizer.decode([self.prefix_token_id])))
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        windows = [
            [
                make_disjoint_window(window)
                for window in get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                )
            ]
            for request in requests
        ]
        flat = [(("", ""), *window) for each in windows for window in each]
        scored = iter(self._loglikelihood_tokens(flat))
        return [math.fsum(next(scored)[0] for _ in each) for each in windows]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """(sum of the log-probabilities of the continuation in nats, whether each was the likeliest)."""
        asked = [self._fitting(context, continuation) for _, context, continuation in requests]
        unique = list(dict.fromkeys(asked))
        # The last token of a sequence is predicted, not read: one more than the context is no truncation.
        within = [each for each in unique if len(each[0]) + len(each[1]) <= self.max_length]
        longest = [each for each in unique if len(each[0]) + len(each[1]) > self.max_length]
        trees, owners = _as_trees(within, self.scorer)
        found: dict[_Sequence, Scores] = {}
        with self.bar("log-likelihoods", "sequence", len(unique)) as advance:
            scored = self.scorer.trees(trees, advance, merge=True)
            for numbers, parts in zip(owners, scored, strict=True):
                found |= dict(zip(numbers, parts, strict=True))
            for each in longest:
                found[each] = self.scorer.with_last_unread(_row(each[0] + each[1], len(each[1])))
                advance(1)
        return [(math.fsum(found[each].logps.tolist()), bool(found[each].greedy.all())) for each in asked]

    def _fitting(self, context: Sequence[int], continuation: Sequence[int]) -> _Sequence:
        if len(continuation) > self.max_length:
            raise UserError(
                f"lm_eval_tasks: a continuation has {len(continuation)} tokens, and the model was made for "
                f"{self.max_length}"
            )
        room = self.max_length + 1 - len(continuation)
        return tuple(context[-room:]), tuple(continuation)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        kinds: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            kinds.setdefault(repr(sorted(request.args[1].items())), []).append(number)
        found: dict[int, str] = {}
        with self.bar("answers", "answer", len(requests)) as advance:
            for numbers in kinds.values():
                options = read_generation(requests[numbers[0]].args[1])
                texts = [requests[number].args[0] for number in numbers]
                found |= dict(zip(numbers, self._written(texts, options, advance), strict=True))
        return [found[number] for number in range(len(requests))]

    def _written(self, texts: list[str], options: Generation, progress: Callable[[int], None]) -> list[str]:
        """What the model writes behind each text, of which the end is kept where there is no room for all."""
        room = self.max_length - options.sampling.max_new_tokens
        if room < 1:
            raise UserError(
                f"lm_eval_tasks: a task asks for {options.sampling.max_new_tokens} new tokens, and the model "
                f"was made for {self.max_length}, prompt and answer together"
            )
        prompts = [self.tok_encode(text)[-room:] for text in texts]
        return written_texts(
            self.scorer, prompts, options, seed=self.seed, max_rows=self.max_rows, progress=progress
        )


def _row(ids: Sequence[int], targets: int) -> TokenizedRow:
    mask = np.arange(len(ids)) >= len(ids) - targets
    return TokenizedRow(np.array(ids, dtype=np.int32), mask)


def _as_trees(
    sequences: Sequence[_Sequence], scorer: Scorer
) -> tuple[list[ComparisonRow], list[list[_Sequence]]]:
    """(trees, which sequences the branches of each are): those of one context together, as many as
    ``max_tokens`` allows."""
    by_context: dict[tuple[int, ...], list[list[_Sequence]]] = {}
    for context, continuation in sequences:
        groups = by_context.setdefault(context, [[]])
        tokens = sum(1 + len(each) for _, each in groups[-1])
        if groups[-1] and len(context) + tokens + len(continuation) > scorer.max_tokens:
            groups.append([])
        groups[-1].append((context, continuation))
    owners = [group for groups in by_context.values() for group in groups]
    trees = [
        ComparisonRow(
            np.array(group[0][0][:-1], dtype=np.int32),
            tuple(_row((context[-1], *continuation), len(continuation)) for context, continuation in group),
            np.zeros(len(group)),
        )
        for group in owners
    ]
    return trees, owners


@dataclass(frozen=True)
class LmEvalTasks:
    """Tasks that were found and whose data could be read. ``manager``: what loads them again for every
    model. ``names``: those that were asked for. ``groups``: all groups among them, with the tasks in each."""

    manager: Any
    names: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]


def open_tasks(config: LmEvalConfig) -> LmEvalTasks:
    """Find the tasks of a recipe and load their data.

    Raises UserError for a task that is not known, whose data cannot be had, that runs code which a model
    wrote, or that shows pictures.
    """
    names, folder = list(config.lm_eval_tasks), config.lm_eval_include_path
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"lm_eval_include_path: {folder}: there is no such folder")
    loaded: Any = None
    missing: list[str] = []
    problem: Exception | None = None
    # It takes half a minute to read the thousands of tasks that lm-eval brings: only where they are needed,
    # by their names or by tasks that build on them.
    for with_own in (False, True):
        manager = TaskManager(include_path=folder, include_defaults=with_own)
        missing = [name for name in names if not _is_known(manager, name)]
        try:
            loaded = None if missing else manager.load(names)
        except Exception as error:  # a task may run code of its own, and its data may lie anywhere
            problem = error
        if loaded is not None:
            break
    if missing:
        raise UserError(
            f"lm_eval_tasks: there is no task '{missing[0]}' in lm-eval {VERSION}"
            + (f" or in {folder}" if folder else "")
            + f".{did_you_mean(missing[0], manager.all_tasks)}"
        )
    if loaded is None:
        detail = " ".join(str(problem).split()) or type(problem).__name__
        raise UserError(f"lm_eval_tasks: {', '.join(names)}: lm-eval cannot load them: {detail}") from problem
    for name, task in loaded["tasks"].items():
        for flag, words in (("UNSAFE_CODE", "runs code that a model wrote"), ("MULTIMODAL", "has pictures")):
            if getattr(task, flag, False):
                raise UserError(f"lm_eval_tasks: '{name}' {words}, which is not done here; leave it out")
    groups = {
        name: tuple(task.task_name for task in group.get_all_tasks())
        for name, group in loaded.get("groups", {}).items()
    }
    return LmEvalTasks(manager, tuple(names), groups)


def _is_known(manager: Any, name: str) -> bool:
    return name in manager.all_tasks or (name.endswith((".yaml", ".yml")) and Path(name).is_file())


def run_tasks(
    lm: EngineLM, tasks: LmEvalTasks, config: LmEvalConfig, *, system_prompt: str | None = None
) -> dict[str, Any]:
    """What lm-eval found for one model: the mapping that its ``simple_evaluate`` returns.

    ``system_prompt``: for conversations, where the chat template is applied. lm-eval draws solved examples
    by seeds of its own, which stay as they are, so that metrics can be compared with others'.
    """
    found = simple_evaluate(
        model=lm,
        tasks=list(tasks.names),
        task_manager=tasks.manager,
        num_fewshot=config.lm_eval_num_fewshot,
        limit=config.lm_eval_limit,
        apply_chat_template=config.lm_eval_apply_chat_template,
        system_instruction=system_prompt if config.lm_eval_apply_chat_template else None,
        # Intervals are computed from the documents, as for all other metrics.
        bootstrap_iters=0,
    )
    return {**found, "lm_eval_version": VERSION}
