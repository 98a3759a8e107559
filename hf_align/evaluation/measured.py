"""The measurements of one model, each kind on all its data sets, and where their metrics are collected.

Loading models and what is compared between them is in ``run`` and ``answer_comparison``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_align.config import DatasetConfig
from hf_align.errors import UserError
from hf_align.evaluation import answering
from hf_align.evaluation.answering import Reply
from hf_align.evaluation.choices.files import Subject
from hf_align.evaluation.choices.scoring import answer_subject, task_metrics
from hf_align.evaluation.judging.preference_scores import (
    likelihood_preferences,
    read_comparisons,
    reward_preferences,
)
from hf_align.evaluation.lm_eval.metrics import measure_tasks
from hf_align.evaluation.perplexity import measure_perplexity
from hf_align.evaluation.recipe import EvaluateConfig
from hf_align.evaluation.results import Results
from hf_align.evaluation.scoring import Scorer
from hf_align.sampling.options import Sampling, context_length
from hf_align.saved_models.reward_scoring import RewardModel
from hf_align.saved_models.run_models import ModelSource

Items = npt.NDArray[np.float64]


@dataclass
class Evaluation:
    """``results[kind][task][model]``: metrics. ``models``: facts about each. ``items``: (n, 2) for each of
    them, a numerator and a denominator for each item, whose sums give the kind's main metric.
    ``replies[task][model]``: the answers to generation tasks; ``scores[task, model]``: by the name of each
    reward, what it gives for them."""

    results: Results = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    items: dict[tuple[str, str, str], Items] = field(default_factory=dict)
    replies: dict[str, dict[str, list[Reply]]] = field(default_factory=dict)
    scores: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def add(self, kind: str, task: str, model: str, metrics: dict[str, Any], items: Items | None) -> None:
        self.results.setdefault(kind, {}).setdefault(task, {})[model] = metrics
        if items is not None:
            self.items[kind, task, model] = items


@dataclass(frozen=True)
class ModelEvaluation:
    """One model, called ``name``, and where its metrics go."""

    config: EvaluateConfig
    name: str
    source: ModelSource
    evaluation: Evaluation

    def perplexities(self, scorer: Scorer) -> None:
        """Of every source of text."""
        options = self.config.perplexity
        limit = context_length(scorer.model, scorer.tokenizer)
        length = min(options.max_length, limit or options.max_length)
        stride = None if options.stride is None else min(options.stride, length - 1)
        for task, dataset in named_datasets("perplexity_datasets", options.perplexity_datasets):
            with bar(f"{self.name}: perplexity of {task}", "document", None) as advance:
                metrics, items = measure_perplexity(
                    scorer,
                    dataset,
                    length=length,
                    stride=stride,
                    seed=self.config.evaluation.seed,
                    progress=advance,
                )
            self.evaluation.add("perplexity", task, self.name, metrics, items)

    def choices(self, scorer: Scorer, tasks: dict[str, list[Subject]]) -> None:
        """Of every multiple-choice task."""
        for task, subjects in tasks.items():
            total = sum(len(question.choices) for subject in subjects for question in subject.questions)
            with bar(f"{self.name}: {task}", "choice", total) as advance:
                answered = {
                    subject.name: answer_subject(
                        scorer, subject, num_fewshot=self.config.choices.num_fewshot, progress=advance
                    )
                    for subject in subjects
                }
            items = [(each.score("accuracy"), 1.0) for part in answered.values() for each in part]
            metrics = task_metrics(answered, seed=self.config.evaluation.seed)
            self.evaluation.add("multiple_choice", task, self.name, metrics, np.array(items))

    def lm_eval_tasks(self, scorer: Scorer, tasks: Any) -> None:
        """Of every task of lm-eval. ``tasks``: made by ``lm_eval.metrics.open_tasks``, or None."""
        if tasks is None:
            return

        def named_bar(what: str, unit: str, total: int | None) -> Any:
            return bar(f"{self.name}: {what}", unit, total)

        found = measure_tasks(scorer, tasks, self.config, system_prompt=self._trained_with(), bar=named_bar)
        for task, (metrics, items) in found.items():
            self.evaluation.add("lm_eval", task, self.name, metrics, items)

    def generations(self, scorer: Scorer) -> None:
        """Of every generation task; the replies are kept."""
        options = self.config.generations
        sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p, options.top_k)
        entries = options.generation_tasks
        names = task_names("generation_tasks", [(entry.name, entry.path) for entry in entries])
        for task, entry in zip(names, entries, strict=True):
            recipe = self.source.recipe
            asked = answering.read_task(
                entry,
                scorer.tokenizer,
                system_prompt=self._trained_with(),
                fold_system_prompt=recipe.get("fold_system_prompt") is True,
                merge_turns=recipe.get("merge_turns") is True,
            )
            with bar(f"{self.name}: {task}", "answer", len(asked) * entry.num_samples) as advance:
                replies = answering.answer_task(
                    scorer.model,
                    scorer.tokenizer,
                    entry,
                    asked,
                    sampling,
                    seed=self.config.evaluation.seed,
                    max_rows=options.generation_batch_size,
                    progress=advance,
                )
            metrics, items = answering.generation_metrics(entry, replies, seed=self.config.evaluation.seed)
            self.evaluation.add("generation", task, self.name, metrics, items)
            self.evaluation.replies.setdefault(task, {})[self.name] = replies

    def _trained_with(self) -> str | None:
        """The system prompt of the run that made the model."""
        known = self.source.recipe.get("system_prompt")
        return known if isinstance(known, str) else None

    def likelihoods(self, scorer: Scorer) -> None:
        """Of every source of compared answers, by a language model's likelihoods."""
        for task, dataset in self._preferences():
            rows = read_comparisons(dataset, scorer.tokenizer, scorer.model)
            with bar(f"{self.name}: {task}", "answer", sum(len(row.branches) for row in rows)) as advance:
                metrics, items = likelihood_preferences(scorer, rows, advance)
            self.evaluation.add("preferences", task, self.name, metrics, items)

    def rewards(self, reward: RewardModel) -> None:
        """Of every source of compared answers, by a reward model."""
        for task, dataset in self._preferences():
            rows = read_comparisons(dataset, reward.tokenizer, reward.model)
            tokens = self.config.evaluation.max_tokens_per_batch
            with bar(f"{self.name}: {task}", "row", len(rows)) as advance:
                metrics, items = reward_preferences(reward, rows, max_tokens=tokens)
                advance(len(rows))
            self.evaluation.add("preferences", task, self.name, metrics, items)

    def _preferences(self) -> list[tuple[str, DatasetConfig]]:
        return named_datasets("preference_datasets", self.config.preferences.preference_datasets)


def task_names(key: str, entries: list[tuple[str | None, str]]) -> list[str]:
    """A name for each (own name, path): its own, or its file's without the extension; task.json, as every
    BIG-bench task is called, takes its folder's.

    Raises UserError where two are the same.
    """
    paths = [
        PurePath(path).parent if PurePath(path).name == "task.json" else PurePath(path) for _, path in entries
    ]
    names = [own or path.stem or str(path) for (own, _), path in zip(entries, paths, strict=True)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{key}: two entries are called '{name}'; give each a name of its own.")
    return names


def named_datasets(key: str, datasets: Sequence[DatasetConfig]) -> list[tuple[str, DatasetConfig]]:
    """(name, entry) of data sets, whose own ``name`` is a configuration on the hub."""
    paths = [f"{entry.path}-{entry.name}" if entry.name else entry.path for entry in datasets]
    return list(zip(task_names(key, [(None, path) for path in paths]), datasets, strict=True))


@contextmanager
def bar(what: str, unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar; what it gives is called with numbers of units."""
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=what, unit=unit, leave=False) as shown:

        def advance(count: int) -> None:
            shown.update(count)

        yield advance
