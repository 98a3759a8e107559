"""The recipe of a corpus: sources, steps, and what is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.data import DatasetConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe
from hf_align.config.loader import load_config
from hf_align.corpus.names import DEFAULT_STEPS, STEP_NAMES


@dataclass(frozen=True)
class SourcesConfig(Group):
    """Where the documents come from."""

    title: ClassVar[str] = "Sources"

    datasets: list[DatasetConfig] = option(
        help="text to clean: paths, or mappings as described at the end",
        non_empty=True,
        one_or_list=True,
        changes="inputs",
    )
    max_malformed_share: float = shared.max_malformed_share()

    def check(self) -> None:
        if any(dataset.weight != 1 for dataset in self.datasets):
            raise KeyProblem(("datasets",), "a weight has no effect: every document is read once; remove it.")


@dataclass(frozen=True)
class CorpusOptions(Group):
    """What is done with the documents, and where they go."""

    title: ClassVar[str] = "Corpus"

    output_dir: str = shared.output_dir("runs/corpus", help="folder for the documents and the report")
    steps: list[str | dict[str, dict[str, str | bool | int | float | list[str]]]] = option(
        factory=lambda: list(DEFAULT_STEPS),
        help="what is done, in order: names, or {name: {option: value}} (docs/corpus.md); there are "
        f"{', '.join(STEP_NAMES)}",
        non_empty=True,
        one_or_list=True,
    )
    output_format: Literal["parquet", "jsonl"] = option(
        "parquet", help="of the shards that are kept", changes="outputs"
    )
    keep_removed: bool = option(
        True, help="write removed documents, with step, reason, value and threshold", changes="outputs"
    )
    dry_run: bool = option(
        False,
        help="remove and change nothing: measure what each step would remove by itself",
    )
    shard_documents: int = option(
        10_000, ge=1, help="documents a shard, at most; a shard is what a process holds in memory"
    )
    shard_characters: int = option(50_000_000, ge=1, help="characters a shard, at most")
    max_document_characters: int = option(
        5_000_000, ge=1, help="longer documents are removed before any step"
    )
    num_workers: int = option(
        1, ge=0, help="processes; 0: one for each core. The result is the same", changes="speed"
    )
    resume: bool = option(
        True,
        help="go on with what is in output_dir, where sources and steps are the same; false: move it aside",
        changes="resuming",
    )

    def check(self) -> None:
        if self.shard_characters < self.max_document_characters:
            raise KeyProblem(
                ("shard_characters", "max_document_characters"),
                f"found {self.shard_characters:,} for a shard and {self.max_document_characters:,} for a "
                "document; expected room for the longest document.",
            )


@dataclass(frozen=True)
class CorpusConfig(Recipe):
    """Cleaning a corpus."""

    sources: SourcesConfig
    corpus: CorpusOptions = field(default_factory=CorpusOptions)


def parse_corpus(argv: Sequence[str] | None = None) -> CorpusConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(CorpusConfig, argv, command="corpus")
