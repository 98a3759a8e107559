"""Entries of the lists in an evaluation's recipe: a model, a multiple-choice task, a generation task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from hf_align.config import shared
from hf_align.config.data import DatasetConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, with_home
from hf_align.errors import did_you_mean

CHECKS = (
    "max_words",
    "min_words",
    "max_characters",
    "max_lines",
    "must_contain",
    "must_not_contain",
    "starts_with",
    "ends_with",
    "regex",
    "valid_json",
    "json_keys",
    "stops",
)
"""Names of the checks in ``evaluation.instruction_checks``."""


@dataclass(frozen=True)
class EvaluatedModel(Group):
    """One model; an entry of ``models``. A bare path stands for an entry."""

    title: ClassVar[str] = "Entries of models"

    path: str = option(
        help="a model, an adapter or a run folder, also of a reward model, or a name on the hub",
        non_empty=True,
    )
    name: str | None = option(None, help="its name in tables; null: the last part of the path", text=True)
    base_model: str | None = shared.base_model()
    tokenizer_name_or_path: str | None = shared.tokenizer_name_or_path()
    chat_template_path: str | None = shared.chat_template_path()

    def check(self) -> None:
        for name in ("path", "base_model", "tokenizer_name_or_path", "chat_template_path"):
            object.__setattr__(self, name, with_home(getattr(self, name)))


@dataclass(frozen=True)
class ChoiceTask(Group):
    """One multiple-choice task; an entry of ``choice_tasks``. A bare path stands for an entry."""

    title: ClassVar[str] = "Entries of choice_tasks"

    path: str = option(help="a file, or a folder with a file for each subject", non_empty=True)
    format: Literal["auto", "mmlu", "ceval", "bigbench"] = option(
        "auto",
        help="form of the files; auto: .json is bigbench; .csv is ceval with a header line, mmlu without",
    )
    name: str | None = option(None, help="its name in tables; null: the last part of the path", text=True)
    dev_path: str | None = option(
        None,
        help="file or folder with the examples of few-shot prompts; null: for bigbench the task itself, less "
        "the question",
        non_empty=True,
    )
    max_rows: int | None = option(None, ge=1, help="use the first questions of each subject only")

    def check(self) -> None:
        for key in ("path", "dev_path"):
            object.__setattr__(self, key, with_home(getattr(self, key)))


@dataclass(frozen=True)
class GenerationTask(Group):
    """One task whose answers are written by the model; an entry of ``generation_tasks``."""

    title: ClassVar[str] = "Entries of generation_tasks"

    path: str = option(help="rows with a prompt and an answer, in any form that sft reads", non_empty=True)
    format: Literal["auto", "alpaca", "sharegpt", "baize", "messages", "prompt_completion"] = option(
        "auto", help="form of the rows; auto: recognised from the columns"
    )
    split: str = option("train", help="split of a data set on the hub", non_empty=True, text=True)
    columns: dict[str, str] = option(
        factory=dict, help="own column names, as {canonical name: column in the file}", text=True
    )
    max_rows: int | None = option(None, ge=1, help="use the first rows only")
    skip_rows: int = shared.skip_rows()
    tools: str | list[dict[str, Any]] | None = shared.tools()
    name: str | None = option(None, help="its name in tables; null: the last part of the path", text=True)
    metrics: list[Literal["exact_match", "f1", "rouge_l", "bleu"]] = option(
        factory=lambda: ["exact_match", "f1"],
        help="metrics against the row's answer, or its column references with a list of several; rouge_l "
        "needs "
        "rouge_score, bleu sacrebleu: pip install 'hf_align[metrics]'",
        one_or_list=True,
    )
    checks: dict[str, bool | int | str | list[str]] = option(
        factory=dict,
        help=f"what every answer has to satisfy, as {{check: value}}: {', '.join(CHECKS)}; a row's column "
        "checks "
        "adds its own",
        text=True,
    )
    prompting: Literal["direct", "chain_of_thought"] = option(
        "direct", help="chain_of_thought: the model is asked to think step by step before it answers"
    )
    num_fewshot: int = option(0, ge=0, help="solved examples before each prompt")
    dev_path: str | None = option(
        None, help="rows that the solved examples come from, in the same form", non_empty=True
    )
    num_samples: int = option(
        1, ge=1, help="answers to each prompt, of which the majority counts (self-consistency)"
    )
    answer_pattern: str | None = option(
        None,
        help="regular expression that finds the answer in what was written; its last match counts, its first "
        "group if it has one. null: everything, and with chain_of_thought what follows 'the answer is'",
        non_empty=True,
    )

    def check(self) -> None:
        for key in ("path", "dev_path"):
            object.__setattr__(self, key, with_home(getattr(self, key)))
        for name in self.checks:
            if name not in CHECKS:
                known = ", ".join(CHECKS)
                raise KeyProblem(
                    ("checks",), f"unknown check {name!r}; there are: {known}.{did_you_mean(name, CHECKS)}"
                )
        if bool(self.num_fewshot) != (self.dev_path is not None):
            raise KeyProblem(("num_fewshot", "dev_path"), "each of the two needs the other.")

    def dataset(self, path: str | None = None, max_rows: int | None = None) -> DatasetConfig:
        """Where the rows are, or others of the same form in ``path``, from its beginning."""
        return DatasetConfig(
            path or self.path,
            format=self.format,
            split=self.split,
            columns=self.columns,
            max_rows=max_rows or self.max_rows,
            skip_rows=self.skip_rows if path is None else 0,
            tools=self.tools,
        )
