"""Options of the data: which sets, in which proportions, and how a row becomes tokens and targets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from hf_align.config import shared
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem


@dataclass(frozen=True)
class DatasetConfig(Group):
    """One data set; an entry of ``datasets`` or ``eval_datasets``. A bare path stands for an entry."""

    title: ClassVar[str] = "Entries of datasets and eval_datasets"

    path: str = option(
        help="json, jsonl, csv, tsv, parquet, arrow or txt file, also compressed (.gz, .zst, …); a folder of "
        "such files; several by a pattern (data/*.jsonl); an address (https://, s3://, …); python_docs (the "
        "documentation of Python itself), python_areas (passages of it with their area), or a name on the "
        "hub",
        non_empty=True,
        changes="inputs",
    )
    format: Literal[
        "auto",
        "alpaca",
        "sharegpt",
        "baize",
        "messages",
        "prompt_completion",
        "text",
        "preference",
        "alpaca_preference",
        "sharegpt_preference",
        "hh",
        "ultrafeedback",
        "ranking",
        "labelled_text",
        "labelled_pair",
        "unpaired",
        "unpaired_messages",
        "unpaired_sharegpt",
    ] = option("auto", help="form of the rows; auto: recognised from the columns")
    split: str = option(
        "train",
        help="split of a data set on the hub, of a folder or a json file that has some; of python_docs and "
        "python_areas: train, test or all",
        non_empty=True,
        text=True,
    )
    name: str | None = option(
        None, help="configuration of a data set on the hub or of a folder", non_empty=True, text=True
    )
    separator: str | None = option(
        None,
        help="between the fields of a csv file; null: a comma, in .tsv files a tab",
        text=True,
        later=True,
    )
    text_unit: Literal["line", "paragraph", "file"] = option(
        "line",
        help="what a document of a txt file is: a line, the lines between blank lines (as in BERT's "
        "corpora), or the whole file",
        later=True,
    )
    columns: dict[str, str] = option(
        factory=dict, help="own column names, as {canonical name: column in the file}", text=True
    )
    weight: float = option(
        1.0,
        gt=0,
        help="how much its rows count in the mixture: 2 shows them twice as often",
        changes="inputs",
    )
    skip_rows: int = shared.skip_rows()
    max_rows: int | None = option(None, ge=1, help="use so many rows at most, the first that are not skipped")
    tools: str | list[dict[str, Any]] | None = shared.tools()

    def check(self) -> None:
        if "://" in self.path:
            # Paths stand in messages, reports and run.json, so what may hold a key is refused, unrepeated.
            rest = self.path.partition("://")[2]
            if "@" in rest.partition("/")[0] or "?" in rest or "#" in rest:
                raise KeyProblem(
                    ("path",),
                    "found an address with a user before '@', or with '?' or '#', which may hold a key and "
                    "would stand in reports; give keys by the client's own settings, or download the file.",
                )
        if self.separator is not None and len(self.separator) != 1:
            raise KeyProblem(
                ("separator",), f"found {self.separator!r}, expected one character, such as ; or a tab."
            )


@dataclass(frozen=True)
class DataConfig(Group):
    """Training and evaluation data. Relative paths start at the working directory, not at the recipe."""

    title: ClassVar[str] = "Data"

    datasets: list[DatasetConfig] = option(
        help="training data: paths, or mappings as described at the end",
        non_empty=True,
        one_or_list=True,
        changes="inputs",
    )
    eval_datasets: list[DatasetConfig] = option(
        factory=list, help="evaluation data, in the same form", one_or_list=True, changes="inputs"
    )
    eval_split_size: float = option(
        0.0,
        ge=0,
        help="rows held out of the training data for evaluation; below 1: a share of them",
        changes="inputs",
    )
    mixture_exponent: float = option(
        1.0,
        gt=0,
        le=1,
        help="below 1: small data sets are over-sampled (share ~ size^exponent)",
        changes="inputs",
    )
    streaming: bool = option(
        False, help="read the data while training instead of before; needs max_steps", changes="inputs"
    )
    shuffle_buffer_size: int = option(
        1000,
        ge=1,
        help="rows among which a stream is shuffled",
        needs=("streaming", (True,)),
        changes="inputs",
    )
    drop_duplicates: bool = shared.drop_duplicates()
    max_length: int = option(1024, ge=2, help="longest sequence in tokens")
    overlong: Literal["error", "drop", "truncate"] = option(
        "error", help="what happens to rows that are longer than max_length"
    )
    max_row_characters: int = option(
        1_000_000,
        ge=1,
        help="rows with more characters of text are malformed: tokenising them takes memory",
        changes="inputs",
        later=True,
    )
    train_on: Literal["assistant", "last", "all"] | list[str] = option(
        "assistant",
        help="targets: all answers, the last answer, or every token; a list of regular expressions: what "
        "they match in the answers, or their first group",
        non_empty=True,
        text=True,
    )
    dataset_num_proc: int | None = shared.dataset_num_proc()
    dataset_cache: bool = option(
        True, help="keep prepared rows on disk for the next run with the same data", changes="speed"
    )
    dataset_cache_dir: str | None = shared.dataset_cache_dir()
    packing: bool = option(
        True, help="concatenate sequences instead of padding them, where the model can", changes="rounding"
    )
    system_prompt: str | None = option(
        None,
        help="system message for conversations that have none; the word fold alone is short for "
        "fold_system_prompt: true",
        non_empty=True,
        text=True,
    )
    fold_system_prompt: bool = option(
        False,
        help="put the text of a system turn before the first words of the user, for templates without a "
        "system role",
        later=True,
    )
    merge_turns: bool = option(
        False,
        help="make one of turns of the same role that follow each other, for templates that want the roles "
        "to alternate",
        later=True,
    )
    chat_template_kwargs: dict[str, str | bool | int | float] = option(
        factory=dict,
        help="keywords for the chat template, such as {enable_thinking: false}; a row's own take precedence",
        text=True,
        later=True,
    )
    keep_reasoning: Literal["none", "last", "all"] | None = option(
        None,
        help="thoughts in answers: all has to be trained (all, and the default), that of the last answer "
        "(last, for templates that leave earlier thoughts out), or is taken out (none)",
        later=True,
    )
    add_eos: bool = option(True, help="end plain completions and texts with the end-of-sequence token")
    require_end_of_turn: bool = option(
        True, help="an error if the chat template ends answers with no token that can be trained"
    )
    max_malformed_share: float = shared.max_malformed_share()
    max_untrained_share: float = option(
        0.01,
        ge=0,
        le=1,
        help="share of rows without any target above which the data are refused",
        changes="outputs",
    )

    @property
    def targets(self) -> Literal["assistant", "last", "all"]:
        """Which answers are targets, or have them where patterns say which part."""
        return "assistant" if isinstance(self.train_on, list) else self.train_on

    @property
    def target_patterns(self) -> tuple[str, ...]:
        """Regular expressions that find the targets in the answers; none: whole answers."""
        return tuple(self.train_on) if isinstance(self.train_on, list) else ()

    def check(self) -> None:
        if self.system_prompt == "fold":
            object.__setattr__(self, "system_prompt", None)
            object.__setattr__(self, "fold_system_prompt", True)
        for pattern in self.target_patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise KeyProblem(("train_on",), f"{pattern!r} is no regular expression: {error}.") from None
        if self.eval_split_size > 1 and not self.eval_split_size.is_integer():
            raise KeyProblem(
                ("eval_split_size",),
                f"found {self.eval_split_size:g}, expected a share below 1 or a whole number of rows.",
            )
        if not self.streaming:
            return
        if self.drop_duplicates:
            raise KeyProblem(("drop_duplicates", "streaming"), "a stream does not know the rows before it.")
        if 0 < self.eval_split_size < 1:
            raise KeyProblem(
                ("eval_split_size", "streaming"),
                "the share of a stream is unknown before its end; give a whole number of rows.",
            )
        if self.mixture_exponent != 1:
            raise KeyProblem(
                ("mixture_exponent", "streaming"),
                "the sizes of streamed data sets are unknown; set each 'weight' instead.",
            )


@dataclass(frozen=True)
class ComparisonConfig(Group):
    """How prompts with several answers are computed."""

    title: ClassVar[str] = "Comparisons"

    share_prefix: bool = option(True, help="encode each prompt once for all its answers", changes="rounding")
    disable_dropout: bool = option(
        True, help="no dropout in the base model, so that both answers meet the same model"
    )


def check_answers_are_trained(train_on: str | list[str], *, last: bool = False) -> None:
    """Raise :class:`KeyProblem` where other targets than the compared answers are asked for.

    ``last``: of answers of several turns the last alone may be asked for.
    """
    if train_on != "assistant" and not (last and train_on == "last"):
        raise KeyProblem(
            ("train_on",), f"found {train_on}; what counts here are the compared answers. Leave it out."
        )
