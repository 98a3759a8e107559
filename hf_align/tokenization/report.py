"""What a tokenizer's run shows: compression by source and script, what is lost, vocabulary use, samples.

Reads the run record like the rest of the page, and copes with whatever is missing. Ratios are made here, from
the counts that the record keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from hf_align.reporting.drawing import HERO, Plot, XAxis
from hf_align.reporting.marks import Line, interval, look
from hf_align.reporting.run_view import Fact, listing, mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.reporting.token_view import visible_html
from hf_align.runs import formatting
from hf_align.tokenization.record import TokenizerMetrics, TokenizerRecord

Row = Mapping[str, Any]

COLUMNS = (
    "text",
    "tokenizer",
    "texts",
    "characters a token",
    "bytes a token",
    "tokens a word",
    "unknown tokens",
    "characters lost",
    "come back exactly",
    "white space aside",
)
KINDS = {
    "bpe": "BPE",
    "byte_level_bpe": "Byte-level BPE",
    "wordpiece": "WordPiece",
    "unigram": "Unigram",
}
_TITLES = {"source": "Source", "column": "Group", "script": "Script"}
RANK = XAxis("ranks", "rank of the token", lambda value: f"{10**value:,.0f}", whole=True)


def tokenizer_view(record: Row) -> dict[str, Any]:
    """Tables, notes, drawings and samples for the page."""
    record = TokenizerRecord.of(record)
    found = record.tokenizer
    results = [mapping(item) for item in found.figures]
    return {
        "settings": _settings(record, found),
        "columns": COLUMNS,
        "tables": _tables(results),
        "use_columns": ("tokenizer", "tokens", "special", "used here", "bits a token", "bits a character"),
        "use": [_use(item) for item in results],
        "notes": _notes(found, results),
        "plots": _plots(results),
        "examples": [str(token) for token in record.extension.examples],
        "samples": [_sample(mapping(item)) for item in record.segmentations],
    }


def tokenizer_facts(record: Row) -> list[Fact]:
    """The headline facts, in reading order; what is unknown is left out."""
    record = TokenizerRecord.of(record)
    found = record.tokenizer
    results = [mapping(item) for item in found.figures]
    facts = []
    if results:
        first = results[0]
        facts.append(Fact("Vocabulary", formatting.count(first.get("vocab_size")), "tokens"))
        gain = largest_gain(results) if record.extension else None
        if gain is not None:
            detail = f"tokens a character, {gain.before:.2f} before"
            facts.append(Fact(gain.script, f"{gain.after:.2f}", detail))
        facts.append(Fact("Compression", _ratio(first, "characters", "tokens"), "characters a token"))
        facts.append(Fact("Bytes a token", _ratio(first, "bytes", "tokens")))
        facts.append(Fact("Unknown", _share(first, "unknown", "tokens"), "of the tokens"))
        facts.append(
            Fact("Vocabulary used", formatting.share(first.get("used_share")), "by the measured text")
        )
    extension = record.extension
    if extension:
        facts.append(Fact("New tokens", formatting.count(extension.count)))
        if extension.parameters is not None:
            grown = formatting.count(extension.parameters)
            before = formatting.count(extension.parameters_before)
            facts.append(Fact("Parameters", grown, f"{before} before"))
    if record.wall_time_seconds is not None:
        facts.append(Fact("Wall time", formatting.duration(record.wall_time_seconds)))
    return facts


def tokenizer_title(record: Row) -> str:
    """What was made: ``byte-level BPE tokenizer, 8,192 tokens``, or ``SmolLM2, 2,000 tokens added``."""
    record = TokenizerRecord.of(record)
    recipe, extension = record.recipe, record.extension
    if recipe.get("extend"):
        name = PurePath(str(recipe["extend"])).name
        return f"{name}, {formatting.count(extension.count)} tokens added" if extension else name
    kind = KINDS.get(str(recipe.get("tokenizer_type")), "")
    made = record.tokenizer.figures
    # Little text gives fewer tokens than the recipe allows.
    size = (mapping(made[0]) if made else recipe).get("vocab_size")
    return f"{kind} tokenizer, {formatting.count(size)} tokens".strip()


@dataclass(frozen=True)
class Gain:
    """Tokens a character of the texts in one script, before and after."""

    script: str
    before: float
    after: float


def largest_gain(results: Sequence[Row]) -> Gain | None:
    """The script in which the first tokenizer needs the fewest tokens in proportion to the second."""
    gains = []
    if len(results) > 1:
        after, before = (mapping(mapping(item.get("by")).get("script")) for item in results[:2])
        for script in after:
            new, old = (
                _of({"total": mapping(groups.get(script))}, "tokens", "characters")
                for groups in (after, before)
            )
            if new and old:
                gains.append(Gain(str(script), old, new))
    return min(gains, key=lambda gain: gain.after / gain.before, default=None)


def _settings(record: Row, found: TokenizerMetrics) -> list[tuple[str, str]]:
    recipe = TokenizerRecord.of(record).recipe
    extend = recipe.get("extend")
    made = f"{extend}, extended" if extend else KINDS.get(str(recipe.get("tokenizer_type")), "")
    special = [str(token) for token in found.special]
    listed = " ".join(special[:12]) + (f" … ({len(special)} in all)" if len(special) > 12 else "")
    return [("Tokenizer", made), *([("Special tokens", listed)] if listed else [])]


def _tables(results: Sequence[Row]) -> list[dict[str, Any]]:
    """A table for each way of splitting the text that has something to say, with a row a tokenizer."""
    tables = []
    for key, title in _TITLES.items():
        groups = [mapping(mapping(item.get("by")).get(key)) for item in results]
        names = list(dict.fromkeys(name for group in groups for name in group))
        if not names or (key == "script" and len(names) < 2):
            continue
        rows = []
        for name in names:
            for item, group in zip(results, groups, strict=True):
                counts = mapping(group.get(name))
                rows.append({"name": name, "cells": [str(item.get("name")), *_cells(counts)]})
        tables.append({"title": f"By {title.lower()}", "rows": rows})
    return tables


def _cells(counts: Row) -> list[str]:
    total = {"total": counts}
    return [
        formatting.count(counts.get("texts")),
        _ratio(total, "characters", "tokens"),
        _ratio(total, "bytes", "tokens"),
        _ratio(total, "tokens", "words"),
        _share(total, "unknown", "tokens"),
        _share(total, "lost", "characters"),
        _share(total, "exact", "texts"),
        _share(total, "complete", "texts"),
    ]


def _of(item: Row, above: str, below: str) -> float | None:
    total = mapping(item.get("total"))
    over, under = formatting.finite(total.get(above)), formatting.finite(total.get(below))
    return None if over is None or not under else over / under


def _ratio(item: Row, above: str, below: str) -> str:
    value = _of(item, above, below)
    return formatting.MISSING if value is None else f"{value:.2f}"


def _share(item: Row, above: str, below: str) -> str:
    return formatting.share(_of(item, above, below))


def _use(item: Row) -> dict[str, Any]:
    used = f"{formatting.count(item.get('used'))} ({formatting.share(item.get('used_share'))})"
    cells = [formatting.count(item.get(key)) for key in ("vocab_size", "special_tokens")]
    bits = [formatting.loss(item.get(key)) for key in ("entropy", "bits_per_character")]
    return {"name": str(item.get("name")), "cells": [*cells, used, *bits]}


def _notes(found: TokenizerMetrics, results: Sequence[Row]) -> list[str]:
    if not results:
        return []
    notes = []
    if not found.held_out:
        notes.append(
            "Measured on the text that the tokenizer was trained on, which flatters it: give eval_datasets, "
            "or eval_split_size."
        )
    notes.append(
        "Words are what white space separates. Bits are those of a model that knows how often each token of "
        "this text occurs and nothing else: bits a character compare tokenizers, since the text is the same, "
        "unless they lose characters or white space."
    )
    return notes


def _plots(results: Sequence[Row]) -> list[Plot]:
    curves = {}
    for item in results:
        found = [interval(point) for point in listing(item.get("points"))]
        found = [point for point in found if point and point[0] > 0]
        if len(found) > 1:
            curves[str(item.get("name"))] = found
    if not curves:
        return []
    lines, told = [], []
    for place, (name, found) in enumerate(curves.items()):
        ranks, counts = zip(*found, strict=True)
        label = name if len(curves) > 1 else ""
        logs = [math.log10(rank) for rank in ranks]
        lines.append(Line(logs, counts, label, **look(place)))
        # The last rank is the number of different tokens.
        told.append(f"{name}: {ranks[-1]:,.0f} tokens, the first {counts[0]:,.0f} times")
    title, summary = "How often each token is used", "; ".join(told) + "."
    return [Plot(title, summary, "frequencies", lines, RANK, "uses", sizes=HERO, scale="log")]


def _sample(item: Row) -> dict[str, Any]:
    shown = []
    for part in listing(item.get("pieces")):
        pieces = [piece for piece in listing(mapping(part).get("pieces")) if len(listing(piece)) == 3]
        shown.append(
            {
                "name": str(mapping(part).get("name")),
                "tokens": sum(int(formatting.finite(count) or 0) for _, count, _ in pieces),
                "html": segmentation_html(pieces),
            }
        )
    return {"characters": len(str(item.get("text") or "")), "shown": shown}


def segmentation_html(pieces: Sequence[Any]) -> Markup:
    """Pieces of a text in four alternating colours; unknown ones and those of several tokens are marked."""
    parts = []
    for place, (text, count, unknown) in enumerate(pieces):
        shown = visible_html(str(text))
        if not count:
            parts.append(shown)
            continue
        kind = "unknown" if unknown else f"t{place % 4}"
        several = Markup(' data-tokens="{0}" title="{0} tokens"').format(count) if count > 1 else ""
        mark = Markup("<sub>{}</sub>").format(count) if count > 1 else ""
        parts.append(Markup('<span class="{}"{}>{}{}</span>').format(kind, several, shown, mark))
    return Markup("").join(parts)


REPORT = ReportPart(
    view=lambda record, rows, run_dir: tokenizer_view(record),
    template="tokenization/report.html.jinja",
    place="instead of curves",
    facts=tokenizer_facts,
    title=tokenizer_title,
    style=True,
)
