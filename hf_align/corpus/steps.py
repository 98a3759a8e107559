"""The steps by name, and how an entry of a recipe's ``steps`` becomes one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from hf_align.config.choices.keywords import Value, check_keywords
from hf_align.corpus.document import Document, Step, Verdict
from hf_align.corpus.whole.base import WholeStep
from hf_align.errors import UserError, did_you_mean

Entry = str | Mapping[str, Mapping[str, Value]]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Named:
    """A step of a recipe. ``name``: unique in the recipe. ``one``: a function of a document, or ``whole``."""

    name: str
    one: Step | None = None
    whole: WholeStep | None = None


def language(*, languages: list[str] | None = None, min_score: float = 0.65) -> Step:
    """See ``rules.language``."""
    from hf_align.corpus.rules.language import language

    return functools.partial(language, languages=languages, min_score=min_score)


def gopher_quality(**thresholds: float) -> Step:
    """See ``rules.gopher.quality``."""
    from hf_align.corpus.rules.gopher import QUALITY, quality

    return functools.partial(quality, thresholds={**QUALITY, **thresholds})


def gopher_repetition(**thresholds: float) -> Step:
    """See ``rules.gopher.repetition``."""
    from hf_align.corpus.rules.gopher import REPETITION, repetition

    return functools.partial(repetition, thresholds={**REPETITION, **thresholds})


def c4(**thresholds: float) -> Step:
    """See ``rules.c4``."""
    from hf_align.corpus.rules.c4 import C4, c4

    return functools.partial(c4, thresholds={**C4, **thresholds})


def fineweb(*, preset: Literal["paper", "code"] = "paper", **thresholds: float) -> Step:
    """See ``rules.fineweb``."""
    from hf_align.corpus.rules.fineweb import PRESETS, fineweb

    return functools.partial(fineweb, thresholds={**PRESETS[preset], **thresholds})


def lines(**thresholds: float) -> Step:
    """See ``rules.fineweb.line_rules``."""
    from hf_align.corpus.rules.fineweb import LINES, line_rules

    return functools.partial(line_rules, thresholds={**LINES, **thresholds})


def personal_data(*, kinds: list[str] | None = None, region: str | None = None) -> Step:
    """See ``rules.personal_data``. Raises UserError for a kind that is not there."""
    from hf_align.corpus.rules.personal_data import KINDS, personal_data

    for kind in kinds or ():
        if kind not in KINDS:
            raise UserError(
                f"steps: personal_data: kinds: found {kind!r}, expected some of {', '.join(KINDS)}."
                f"{did_you_mean(kind, KINDS)}"
            )
    return functools.partial(personal_data, kinds=tuple(kinds or KINDS), region=region)


def exact_duplicates(*, normalize: bool = True, keep: Literal["first", "longest"] = "first") -> WholeStep:
    """See ``whole.exact``."""
    from hf_align.corpus.whole.exact import ExactDuplicates

    return ExactDuplicates(normalize, keep)


def minhash(
    *,
    ngram: int = 5,
    bands: int = 14,
    rows: int = 8,
    seed: int = 1,
    verify: bool = False,
    min_similarity: float = 0.7,
) -> WholeStep:
    """See ``whole.minhash``."""
    from hf_align.corpus.whole.minhash import NearDuplicates

    return NearDuplicates(ngram, bands, rows, seed, verify, min_similarity)


def paragraphs(
    *, max_occurrences: int = 1, min_words: int = 10, unit: Literal["paragraph", "line"] = "paragraph"
) -> WholeStep:
    """See ``whole.paragraphs``."""
    from hf_align.corpus.whole.paragraphs import ParagraphDuplicates

    return ParagraphDuplicates(max_occurrences, min_words, unit)


def decontaminate(
    *,
    benchmarks: list[str],
    rule: Literal["gpt3", "document"] = "gpt3",
    ngram: int = 13,
    window: int = 200,
    min_piece: int = 200,
    max_pieces: int = 10,
    max_documents: int = 10,
) -> WholeStep:
    """See ``whole.contamination``. Raises UserError for benchmarks that cannot be read."""
    from hf_align.corpus.whole.contamination import Decontaminate, read_index

    read_index(tuple(benchmarks), ngram)
    return Decontaminate(tuple(benchmarks), rule, ngram, window, min_piece, max_pieces, max_documents)


def classifier(*, good: list[str], ordinary: list[str], keep_share: float, seed: int = 0) -> WholeStep:
    """A linear model of ``whole.scored``. Raises UserError for a share that is none."""
    from hf_align.corpus.whole.scored import Scored

    return Scored("linear", _share("classifier", keep_share), tuple(good), tuple(ordinary), seed=seed)


def encoder(*, model: str, label: str, keep_share: float) -> WholeStep:
    """An encoder of ``whole.scored``. Raises UserError for a share that is none."""
    from hf_align.corpus.whole.scored import Scored

    _folder("encoder", model)
    return Scored("encoder", _share("encoder", keep_share), model=model, label=label)


def perplexity(*, model: str, keep_share: float) -> WholeStep:
    """A language model of ``whole.scored``. Raises UserError for a share that is none."""
    from hf_align.corpus.whole.scored import Scored

    share = _share("perplexity", keep_share)
    _folder("perplexity", model)
    return Scored("perplexity", share, model=model)


def _folder(name: str, model: str) -> None:
    if not (Path(model) / "config.json").is_file():
        raise UserError(
            f"steps: {name}: model: '{model}' is no folder of a whole model (it has no config.json); merge "
            "an adapter first (hf-align merge)."
        )


def _share(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise UserError(f"steps: {name}: keep_share: found {value:g}, expected more than 0 and at most 1.")
    return value


_THRESHOLDS: dict[str, tuple[str, str]] = {
    "gopher_quality": ("gopher", "QUALITY"),
    "gopher_repetition": ("gopher", "REPETITION"),
    "c4": ("c4", "C4"),
    "fineweb": ("fineweb", "PRESETS"),
    "lines": ("fineweb", "LINES"),
}
STEPS: dict[str, Callable[..., Any]] = {
    made.__name__: made
    for made in (
        language,
        gopher_quality,
        gopher_repetition,
        c4,
        fineweb,
        lines,
        exact_duplicates,
        minhash,
        paragraphs,
        personal_data,
        decontaminate,
        classifier,
        encoder,
        perplexity,
    )
}


def read_steps(entries: Sequence[Entry]) -> list[Named]:
    """The steps of a recipe, in order.

    Raises UserError for an unknown step, for options that it does not take, and for files that they name.
    """
    found: list[Named] = []
    for number, entry in enumerate(entries, 1):
        name, options = _split(entry, number)
        if name not in STEPS:
            raise UserError(
                f"steps: entry {number}: there is no step '{name}'.{did_you_mean(name, STEPS)} There are: "
                f"{', '.join(STEPS)}."
            )
        _check(name, options)
        made = STEPS[name](**options)
        count = sum(other.name.partition("#")[0] == name for other in found)
        unique = f"{name}#{count + 1}" if count else name
        found.append(Named(unique, one=made) if callable(made) else Named(unique, whole=made))
    return found


def _split(entry: Entry, number: int) -> tuple[str, Mapping[str, Value]]:
    if isinstance(entry, str):
        return entry, {}
    if len(entry) != 1:
        raise UserError(
            f"steps: entry {number}: found {len(entry)} names ({', '.join(entry)}), expected one step with "
            "its options, as in {minhash: {bands: 14}}."
        )
    ((name, options),) = entry.items()
    return name, options


def _check(name: str, options: Mapping[str, Value]) -> None:
    where = f"steps: {name}"
    if name not in _THRESHOLDS:
        check_keywords(STEPS[name], options, where)
        return
    import importlib

    module, constant = _THRESHOLDS[name]
    known = getattr(importlib.import_module(f"hf_align.corpus.rules.{module}"), constant)
    if "preset" in inspect.signature(STEPS[name]).parameters:
        preset = options.get("preset", "paper")
        if preset not in known:
            raise UserError(f"{where}: preset: found {preset!r}, expected {' or '.join(known)}.")
        known = known[preset]
    for key, value in options.items():
        if key == "preset":
            continue
        if key not in known:
            raise UserError(
                f"{where} has no threshold '{key}'.{did_you_mean(key, known)} It has: {', '.join(known)}."
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{where}: {key}: found {value!r}, expected a number.")


def apply_one(step: Step, document: Document) -> Verdict:
    """What a step says; an error of its own names the document."""
    try:
        return step(document)
    except (ValueError, RecursionError, OverflowError) as error:
        raise UserError(f"{document.id}: a step fails: {type(error).__name__}: {error}") from error
