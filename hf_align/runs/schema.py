"""What ``run.json`` says: the entries of every run, their types, and how a typed object is read and written.

A :class:`Fields` is a JSON object, a dictionary, whose entries are declared as attributes. Reading copes
with what is missing or of another type: records can be old, cut off, edited or of another program. A stage
declares what it adds in a subclass of :class:`Record`, in its own room, which ``hf_align.stages`` names.
"""

from __future__ import annotations

import numbers
import types
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self, dataclass_transform, get_args, get_origin, get_type_hints

from hf_align.runs import formatting

_WRITTEN_AS: dict[type, type | tuple[type, ...]] = {
    float: numbers.Real,
    int: numbers.Integral,
    dict: Mapping,
    list: (list, tuple),
}


class RecordWarning(UserWarning):
    """An entry of run.json was given a value of another type than its own. An error in tests."""


class _Entry:
    """One entry. Missing or of another type it reads as the empty value of its type, a number as None."""

    def __init__(self, about: str, key: str | None) -> None:
        self.about, self._key = about, key

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name, self.key = owner, name, self._key or name

    @cached_property
    def type(self) -> Any:
        """The declared type, without the None of ``float | None``."""
        declared = get_type_hints(self.owner)[self.name]
        if isinstance(declared, types.UnionType):
            declared = get_args(declared)[0]
        return get_origin(declared) or declared

    def __get__(self, fields: Fields | None, owner: type) -> Any:
        if fields is None:
            return self
        value = dict.get(fields, self.key)
        if self.type in (str, bool):
            return self.type(value or "")
        if self.type in (int, float):
            known = formatting.finite(value)
            # A count stays the integer that it was written as.
            return value if known is not None and self.type is int and isinstance(value, int) else known
        if issubclass(self.type, Fields):
            return self.type.of(value)
        return value if isinstance(value, self.type) else self.type()

    def __set__(self, fields: Fields, value: Any) -> None:
        expected = Mapping if issubclass(self.type, Fields) else _WRITTEN_AS.get(self.type, self.type)
        if value is not None and not isinstance(value, expected):
            warnings.warn(
                f"run.json: {self.key} of {self.owner.__name__} is {type(value).__name__}, expected "
                f"{self.type.__name__}",
                RecordWarning,
                stacklevel=3,
            )
        fields[self.key] = value

    def __delete__(self, fields: Fields) -> None:
        fields.pop(self.key, None)


def entry(about: str, *, key: str | None = None) -> Any:
    """Declare an entry: ``about`` for the documentation, ``key`` where the name in JSON is no attribute's."""
    return _Entry(about, key)


@dataclass_transform(kw_only_default=True)
class Fields(dict[str, Any]):
    """A JSON object with declared entries; made of those that are given, it holds no others."""

    def __init__(self, **entries: Any) -> None:
        super().__init__()
        declared = {one.name for one in self.declared()}
        for name, value in entries.items():
            if name not in declared:
                raise TypeError(f"{type(self).__name__} declares no entry {name!r}")
            setattr(self, name, value)

    @classmethod
    def of(cls, content: Any) -> Self:
        """``content`` as this type, what it does not declare included; empty where it is no dictionary."""
        if isinstance(content, cls):
            return content
        fields = cls()
        if isinstance(content, Mapping):
            fields.update(content)
        return fields

    @classmethod
    def declared(cls) -> Iterator[_Entry]:
        """The entries, those of the base classes first."""
        for owner in reversed(cls.__mro__):
            yield from (one for one in vars(owner).values() if isinstance(one, _Entry))


class Model(Fields):
    """The entry ``model``."""

    name: str = entry("as in the recipe: a path or a hub id")
    class_name: str = entry("the class of the base model", key="class")
    parameters: int | None = entry("of the model with what was added to it")
    trainable_parameters: int | None = entry("those that are trained")
    trained: list[Any] = entry("`name`, `count` and `parameters` of each kind of weights that is trained")
    precision: str = entry("`fp32`, `bf16` or `fp16`, in which it computes")
    adapter: str = entry("as in the recipe; `none` where all weights are trained")
    attention: str = entry("`segments`: packed without padding; `padded`")
    seq2seq: bool = entry("whether it is an encoder-decoder model")


class BeforeAndAfter(Fields):
    """What was measured before and after training."""

    before: dict[str, Any] = entry("before training")
    after: dict[str, Any] = entry("after training")


class Matches(Fields):
    """The entry ``sample_exact_match``."""

    before: float | None = entry("before training")
    after: float | None = entry("after training")


class Calls(Fields):
    """The entry ``sample_calls``."""

    rows: int | None = entry("sampled prompts whose reference calls a tool")
    name: Matches = entry("the share of these that call the right function")
    exact: Matches = entry("the share with the right arguments as well")
    other_rows: int | None = entry("sampled prompts whose reference calls nothing")
    none: Matches = entry("the share of these that call nothing")


class Record(Fields):
    """The entries of run.json that runs of several stages have."""

    command: str = entry("the stage: `sft`, `dpo`, …")
    status: str = entry("`running`, `completed`, `interrupted`, `stopped` or `rolled back`")
    message: str = entry("why a run ended early, where it says so itself")
    started: str = entry("when the run began, ISO 8601 with its time zone")
    wall_time_seconds: float | None = entry("of all parts of a run that was resumed")
    recipe: dict[str, Any] = entry("the resolved recipe, flat, secrets hidden")
    recipe_path: str = entry("the file of the recipe")
    overrides: dict[str, Any] = entry("what the command line changed in it")
    versions: dict[str, Any] = entry("of Python, hf_align and its main dependencies")
    tested_versions: dict[str, Any] = entry("the range of each library that hf_align was tested with")
    untested_versions: dict[str, Any] = entry("`older` or `newer`, for each library outside its range")
    machine: dict[str, Any] = entry("`cpu`, `cores`, `memory_bytes`, `accelerator`, `system`")
    model: Model = entry("the model that is trained")
    data_report: dict[str, Any] = entry("what was read, kept, dropped and cut, by source")
    mask_samples: list[Any] = entry("some rows, with the tokens that count")
    generations: list[Any] = entry("`source`, `prompt`, `reference` and the answers `before` and `after`")
    sample_exact_match: Matches = entry("the share of these that equal their reference")
    sample_calls: Calls = entry("how many of these call the right tools, where references call any")
    final_metrics: dict[str, Any] = entry("the metrics at the end; with `_before` those before training")
    tokens_per_second: float | None = entry("of training, or of sampling where nothing is trained")
    peak_memory_bytes: int | None = entry("of the accelerator, else of the process")
    last_checkpoint: str = entry("the name of the newest complete checkpoint")
    merge: dict[str, Any] = entry("the largest difference that merging the adapter made, in deviations")
    eva: dict[str, Any] = entry("what EVA found: `layers` with their ranks, `explained_variance`, its cost")
    ladder_states: dict[str, Any] = entry("the stored states that a ladder was trained on")
