"""Answers of a model to the prompts of generation tasks, and what is counted of them.

The random numbers behind an answer follow from the seed and the prompt alone, so that neither other prompts
nor the batch change what is drawn. Metrics are in ``metrics``, checks in ``instruction_checks``, ways to ask
in ``prompting``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_align.config.data import DataConfig
from hf_align.data.chat.calls import CALL_METRICS, call_scores, wanted_calls
from hf_align.data.chat.prompts import Prompt, read_prompts
from hf_align.data.chat.rendering import prompt_ids
from hf_align.data.conversion.source_tools import tools_of_source
from hf_align.errors import UserError
from hf_align.evaluation.instruction_checks import check_pattern, passed, read_checks
from hf_align.evaluation.metrics.answer_match import exact_match, optional_package, rouge_l, token_f1
from hf_align.evaluation.prompting import Ask, majority
from hf_align.evaluation.recipe_entries import GenerationTask
from hf_align.evaluation.results import main_metric
from hf_align.sampling.answers import Answer, draws_of, sample_answers
from hf_align.sampling.options import Sampling, context_length
from hf_align.sampling.stopping import stop_token_ids
from hf_align.statistics.bootstrap import mean_and_interval
from hf_align.statistics.calibration import wilson_interval

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PACKAGES = (("rouge_l", "rouge_score.rouge_scorer", "rouge_score"), ("bleu", "sacrebleu", "sacrebleu"))


@dataclass(frozen=True)
class Asked:
    """One row of a task. ``ids``: its prompt as the model gets it. ``references``: what its answer is held
    against. ``checks``: what the answer has to satisfy."""

    prompt: Prompt
    ids: tuple[int, ...]
    references: tuple[str, ...]
    checks: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What a model wrote for one row. ``answers``: what counts of each of the ``samples``; ``chosen``: the
    number of the one that stands for all."""

    asked: Asked
    samples: tuple[Answer, ...]
    answers: tuple[str, ...]
    chosen: int

    @property
    def answer(self) -> str:
        return self.answers[self.chosen]

    @property
    def sample(self) -> Answer:
        return self.samples[self.chosen]

    @property
    def written(self) -> tuple[str, ...]:
        return tuple(sample.text for sample in self.samples)


def read_task(
    task: GenerationTask,
    tokenizer: PreTrainedTokenizerBase,
    *,
    system_prompt: str | None,
    **shape: bool,
) -> list[Asked]:
    """The rows of a task as they are put to a model with this tokenizer.

    ``system_prompt``: for conversations that have none. ``shape``: keys of :class:`DataConfig` that change
    their turns, as when the model was trained. Raises UserError where rows or checks cannot be read.
    """
    check_task(task)
    own_keys = {"system_prompt": system_prompt, **shape}
    shots: list[Prompt] = []
    if task.dev_path is not None:
        shots = _prompts(task, tokenizer, own_keys, task.dev_path, task.num_fewshot)
    ask = ask_of(task, shots)
    own = read_checks(task.path, task.checks)
    asked: list[Asked] = []
    for prompt in _prompts(task, tokenizer, own_keys):
        ids = tuple(prompt_ids(tokenizer, ask.prompt(prompt.example)))
        checks = {**own, **read_checks(prompt.example.source, prompt.row.get("checks"))}
        asked.append(Asked(prompt, ids, _references(prompt), checks))
    shown = {shot.example.source for shot in shots}
    shown &= {each.prompt.example.source for each in asked}
    if shown:
        raise UserError(
            f"{task.path}: {len(shown)} of its rows are solved examples too, so that their answers stand in "
            f"prompts that ask for them; set skip_rows: {task.num_fewshot}, or name other rows as dev_path"
        )
    return asked


def check_task(task: GenerationTask) -> None:
    """Raise UserError for a pattern, a check or a missing package that would only show when answers are
    there."""
    if task.answer_pattern is not None:
        check_pattern(f"{task.path}: answer_pattern", task.answer_pattern)
    read_checks(task.path, task.checks)
    tools_of_source(task.dataset())
    for metric, module, package in _PACKAGES:
        if metric in task.metrics:
            optional_package(module, package)


def ask_of(task: GenerationTask, shots: Sequence[Prompt] = ()) -> Ask:
    """How the rows of a task are asked."""
    return Ask(task.prompting, tuple(shot.example for shot in shots), task.answer_pattern)


def _prompts(
    task: GenerationTask,
    tokenizer: PreTrainedTokenizerBase,
    keys: Mapping[str, Any],
    path: str | None = None,
    max_rows: int | None = None,
) -> list[Prompt]:
    data = DataConfig(
        [task.dataset(path, max_rows)],
        max_length=2**31,
        require_end_of_turn=False,
        add_eos=False,
        **keys,
    )
    return read_prompts(data, tokenizer, settable=False)[0]


def _references(prompt: Prompt) -> tuple[str, ...]:
    several = prompt.row.get("references")
    if isinstance(several, list) and several and all(isinstance(each, str) for each in several):
        return tuple(several)
    return (prompt.reference,)


def answer_task(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    task: GenerationTask,
    asked: Sequence[Asked],
    sampling: Sampling,
    *,
    seed: int,
    max_rows: int,
    progress: Callable[[int], None] | None = None,
) -> list[Reply]:
    """The replies to all rows in their order. ``progress`` is called with numbers of answers.

    Raises UserError for a prompt that leaves no room for an answer in the model's context.
    """
    limit = context_length(model, tokenizer)
    for each in asked:
        if limit is not None and len(each.ids) + sampling.max_new_tokens > limit:
            raise UserError(
                f"{each.prompt.example.source}: the prompt has {len(each.ids)} tokens, and max_new_tokens = "
                f"{sampling.max_new_tokens} more do not fit into the model's {limit}; allow fewer new "
                "tokens or solved "
                "examples"
            )
    seeds = [prompt_seed(each.ids, seed) for each in asked]
    sampled = sample_answers(
        model,
        tokenizer,
        [each.ids for each in asked],
        sampling,
        stop_ids=stop_token_ids(model, tokenizer),
        samples=task.num_samples,
        max_rows=max_rows,
        draws=draws_of(seeds, task.num_samples, sampling.max_new_tokens),
        progress=progress,
    )
    ask = ask_of(task)
    replies = []
    for each, samples in zip(asked, sampled, strict=True):
        answers = tuple(ask.answer(sample.text) for sample in samples)
        replies.append(Reply(each, tuple(samples), answers, majority(answers)))
    return replies


def prompt_seed(ids: Sequence[int], seed: int) -> str:
    """For ``draws_of``: changes with the run's ``seed`` and the prompt ``ids``, and with nothing else."""
    return hashlib.sha256(f"{seed} {list(ids)}".encode()).hexdigest()


def generation_metrics(
    task: GenerationTask, replies: Sequence[Reply], *, seed: int
) -> tuple[dict[str, Any], npt.NDArray[np.float64] | None]:
    """(the metrics of a task, (rows, 2) the main one of each row beside a 1, or two zeros where it does not
    concern the row; None where it is BLEU).

    The metrics of the task with intervals; where references call tools, ``call_exact`` and ``call_name`` of
    those ``call_rows``, and ``no_call`` of the others (``calls.call_scores``); ``checks``: for each the share
    of the answers that pass it, and ``checks_passed``, the share that passes all they have; ``stopped``: the
    share that ended by itself; ``tokens`` on average; with several samples ``agreement``, the mean share of
    them that gave the chosen answer. Which metric is the main one, ``results.main_metric`` says.
    """
    answers = [reply.answer for reply in replies]
    references = [reply.asked.references for reply in replies]
    values: dict[str, list[float | None]] = {}
    for metric in task.metrics:
        if metric == "exact_match":
            values[metric] = [exact_match(*pair) for pair in zip(answers, references, strict=True)]
        elif metric == "f1":
            values[metric] = [token_f1(*pair) for pair in zip(answers, references, strict=True)]
        elif metric == "rouge_l":
            values[metric] = [*rouge_l(answers, references)]
    wanted = [wanted_calls(reply.asked.prompt.example) for reply in replies]
    if any(wanted):
        called = [call_scores(*pair) for pair in zip(answers, wanted, strict=True)]
        values |= {name: [row.get(name) for row in called] for name in CALL_METRICS}
    checked = [passed(r.asked.checks, r.answer, stopped=r.sample.stopped) for r in replies]
    if any(checked):
        values["checks_passed"] = [float(all(each.values())) for each in checked]
    values["stopped"] = [float(reply.sample.stopped) for reply in replies]
    found: dict[str, Any] = {"rows": len(replies)}
    for name, by_row in values.items():
        each = [value for value in by_row if value is not None]
        if not each:
            continue
        mean, interval = mean_and_interval(each, seed=seed)
        found[name] = mean
        shares = set(each) <= {0.0, 1.0}
        found[f"{name}_interval"] = (
            list(wilson_interval(mean, len(each))) if shares else interval and list(interval)
        )
    if any(wanted):
        found["call_rows"] = sum(map(bool, wanted))
    if "bleu" in task.metrics:
        from hf_align.evaluation.metrics.generation import compute

        found["bleu"] = compute("bleu", answers, [list(known) for known in references])
    names = sorted({name for each in checked for name in each})
    if names:
        found["checks"] = {
            name: float(np.mean([each[name] for each in checked if name in each])) for name in names
        }
    found["tokens"] = float(np.mean([sample.tokens for reply in replies for sample in reply.samples]))
    if task.num_samples > 1:
        found["agreement"] = float(np.mean([_agreement(reply) for reply in replies]))
    main = values.get(main_metric("generation", {"": found}))
    return found, None if main is None else np.array(
        [[value or 0.0, value is not None] for value in main], float
    )


def _agreement(reply: Reply) -> float:
    alike = [exact_match(answer, [reply.answer]) for answer in reply.answers]
    return sum(alike) / len(alike)
