"""The recipe of a tokenizer: which kind, trained on what, or which one is extended by new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_align.config import shared
from hf_align.config.data import DatasetConfig
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.loader import load_config

_NEW = ("extend", (None,))
_MERGED = ("tokenizer_type", ("bpe", "byte_level_bpe", "wordpiece"))
_OF_CHARACTERS = ("tokenizer_type", ("bpe", "wordpiece"))
_NORMALIZED = ("tokenizer_type", ("bpe", "wordpiece", "unigram"))

_SENTINELS = 100

FAMILY_OF_TYPE = {"bpe": "gpt", "byte_level_bpe": "gpt", "wordpiece": "bert", "unigram": "t5"}
"""The special tokens of ``special_tokens: auto``."""


@dataclass(frozen=True)
class TextConfig(Group):
    """The text that a tokenizer is trained on, and the text that it is measured on."""

    title: ClassVar[str] = "Text"

    datasets: list[DatasetConfig] = option(
        help="text to train on: paths, or mappings as described at the end",
        non_empty=True,
        one_or_list=True,
        changes="inputs",
    )
    eval_datasets: list[DatasetConfig] = option(
        factory=list, help="text to measure on, in the same form", one_or_list=True, changes="inputs"
    )
    eval_split_size: float = option(
        0.0,
        ge=0,
        lt=1,
        help="share of the rows of datasets that is measured on instead of trained on",
        changes="inputs",
    )
    report_by: str | None = option(
        None,
        help="column by whose values the report splits its metrics, such as language",
        non_empty=True,
        changes="outputs",
        text=True,
    )
    max_malformed_share: float = shared.max_malformed_share()

    def check(self) -> None:
        for key in ("datasets", "eval_datasets"):
            if any(dataset.weight != 1 for dataset in getattr(self, key)):
                raise KeyProblem((key,), "a weight has no effect: every text counts once; remove it.")
        if self.eval_datasets and self.eval_split_size:
            raise KeyProblem(
                ("eval_split_size", "eval_datasets"), "only one of the two says what is measured on."
            )


@dataclass(frozen=True)
class TokenizerOptions(Group):
    """What kind of tokenizer is made, and what it is told."""

    title: ClassVar[str] = "Tokenizer"

    output_dir: str = shared.output_dir("runs/tokenizer", help="folder for the tokenizer and its report")
    tokenizer_type: Literal["bpe", "byte_level_bpe", "wordpiece", "unigram"] = option(
        "byte_level_bpe", help="the algorithm; byte_level_bpe alone needs no unknown token", needs=_NEW
    )
    vocab_size: int = option(8192, ge=1, help="tokens in all, special ones included", needs=_NEW)
    min_frequency: int = option(2, ge=1, help="how often a pair must occur to be merged", needs=_MERGED)
    limit_alphabet: int = option(
        1000, ge=1, help="so many of the most frequent characters become tokens", needs=_OF_CHARACTERS
    )
    lowercase: bool = option(False, help="text is written in lower case first", needs=_NORMALIZED)
    special_tokens: Literal["auto", "bert", "roberta", "bart", "gpt", "t5"] = option(
        "auto",
        help="special tokens and what is put around a text, as that model has them; "
        "auto: bert for wordpiece, t5 for unigram, else gpt",
        needs=_NEW,
    )
    extra_ids: int = option(
        _SENTINELS, ge=0, help="sentinels <extra_id_n> of the special tokens of t5", needs=_NEW
    )
    additional_special_tokens: list[str] = option(
        factory=list, help="more tokens that are never split, also of a tokenizer to extend", one_or_list=True
    )
    chat_template_path: str | None = option(
        None,
        help="a .jinja file, or a template shipped here (chatml, hermes, alpaca); its <|tokens|> become "
        "special ones",
        non_empty=True,
        needs=_NEW,
    )
    model_max_length: int | None = option(
        None, ge=1, help="longest sequence that the tokenizer announces; null: none", needs=_NEW
    )
    padding_side: Literal["auto", "left", "right"] = option(
        "auto", help="where padding goes; auto: left for gpt, else right", needs=_NEW
    )
    compare_with: str | None = option(
        None,
        help="another tokenizer (folder or hub name) to measure on the same text",
        non_empty=True,
        changes="outputs",
    )
    num_samples: int = option(6, ge=0, help="texts whose tokens the report shows", changes="outputs")

    def check(self) -> None:
        for name in ("output_dir", "chat_template_path", "compare_with"):
            object.__setattr__(self, name, with_home(getattr(self, name)))
        if any(not token.strip() for token in self.additional_special_tokens):
            raise KeyProblem(("additional_special_tokens",), "a special token cannot be blank.")
        if self.extra_ids != _SENTINELS and self.family != "t5":
            raise KeyProblem(
                ("extra_ids", "special_tokens"),
                f"the special tokens of {self.family} have no sentinels; remove it, or set "
                "special_tokens: t5.",
            )

    @property
    def family(self) -> str:
        """The family of special tokens, ``auto`` resolved."""
        return FAMILY_OF_TYPE[self.tokenizer_type] if self.special_tokens == "auto" else self.special_tokens


@dataclass(frozen=True)
class ExtendOptions(Group):
    """A tokenizer that is there already, with or without its model, gets tokens for the new text."""

    title: ClassVar[str] = "Extending a vocabulary"

    extend: str | None = option(
        None, help="folder or hub name of the tokenizer, or of the model with it, to extend", non_empty=True
    )
    new_tokens: int = option(
        2000, ge=0, help="tokens to add at most; 0: additional_special_tokens alone, nothing from the text"
    )
    new_tokens_from: Literal["non_ascii", "all"] = option(
        "non_ascii",
        help="non_ascii: no token of ASCII characters alone is added, so such text stays as it is",
    )
    new_embeddings: Literal["subtokens", "mean", "random"] = option(
        "subtokens", help="a new row: mean of the rows it took before, mean of all rows, or random"
    )
    extend_model: bool | None = option(
        None, help="resize and save the model too; null: where extend holds weights"
    )
    seed: int = option(42, ge=0, le=2**32 - 1, help="seed of random rows")

    def check(self) -> None:
        object.__setattr__(self, "extend", with_home(self.extend))
        if self.extend_model and self.extend is None:
            raise KeyProblem(("extend_model", "extend"), "this has no effect without a model to extend.")


@dataclass(frozen=True)
class TokenizerConfig(Recipe):
    """Training a tokenizer, or extending one."""

    data: TextConfig
    tokenizer: TokenizerOptions = field(default_factory=TokenizerOptions)
    extension: ExtendOptions = field(default_factory=ExtendOptions)

    def check(self) -> None:
        if self.extension.new_tokens == 0 and not self.tokenizer.additional_special_tokens:
            raise KeyProblem(
                ("new_tokens", "additional_special_tokens"), "there is nothing to add; give one of the two."
            )


def parse_tokenizer(argv: Sequence[str] | None = None) -> TokenizerConfig:
    """The recipe from ``--config RECIPE.yaml --key value …``; see :func:`load_config`."""
    return load_config(TokenizerConfig, argv, command="tokenizer")
