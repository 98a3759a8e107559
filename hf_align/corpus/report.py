"""What a corpus run shows: the funnel, what each rule removed with examples, duplicates, languages, lengths.

Reads the run record like the rest of the page, and copes with whatever is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_align.corpus.record import CorpusRecord, Found
from hf_align.reporting.drawing import HERO, Plot, XAxis, sentence
from hf_align.reporting.marks import Histogram, Level, Line, look
from hf_align.reporting.run_view import Fact, listing, mapping
from hf_align.reporting.stage_parts import ReportPart
from hf_align.runs import formatting

Row = Mapping[str, Any]

_MOST_RULES = 24
_BINS = 30
_STEPS = XAxis("steps", "step of the recipe", lambda value: f"{value:.0f}", whole=True)


def corpus_view(record: Row, rows: Sequence[Row], folder: str) -> dict[str, Any]:
    """Tables, drawings and examples for the page."""
    found = CorpusRecord.of(record).corpus
    steps = [mapping(step) for step in found.steps]
    return {
        "dry_run": bool(found.dry_run),
        "funnel": [_funnel_row(step) for step in steps],
        "reasons": _reasons(steps),
        "edits": _edits(steps),
        "examples": _examples(steps),
        "clusters": _clusters(found),
        "paragraphs": _paragraphs(found),
        "benchmarks": _benchmarks(found),
        "classifiers": _classifiers(found),
        "sources": [_source(mapping(source)) for source in found.sources],
        "languages": _languages(found),
        "plots": [plot for plot in (_funnel_plot(steps, bool(found.dry_run)), _length_plot(found)) if plot],
        "rules": _rule_plots(steps),
    }


def corpus_facts(record: Row) -> list[Fact]:
    """The headline facts, in reading order; what is unknown is left out."""
    record = CorpusRecord.of(record)
    found = record.corpus
    steps = [mapping(step) for step in found.steps]
    facts = []
    if steps:
        read, kept = mapping(steps[0].get("before")), mapping(steps[-1].get("after"))
        facts.append(Fact("Documents read", formatting.count(read.get("documents"))))
        if not found.dry_run:
            share = _share(kept, read, "documents")
            facts.append(Fact("Documents kept", formatting.count(kept.get("documents")), share))
            facts.append(Fact("Words kept", formatting.count(kept.get("words")), _share(kept, read, "words")))
    if found.documents_per_second is not None:
        facts.append(Fact("Speed", formatting.count(round(found.documents_per_second)), "documents a second"))
    if record.wall_time_seconds is not None:
        facts.append(Fact("Wall time", formatting.duration(record.wall_time_seconds)))
    return facts


def corpus_title(record: Row) -> str:
    """``Corpus of 12,000 documents``."""
    steps = CorpusRecord.of(record).corpus.steps
    kept = mapping(mapping(steps[-1]).get("after")).get("documents") if steps else None
    return f"Corpus of {formatting.count(kept)} documents" if kept is not None else "Corpus"


def _share(part: Row, whole: Row, key: str) -> str:
    a, b = formatting.finite(part.get(key)), formatting.finite(whole.get(key))
    return f"{formatting.share(a / b)} of those read" if a is not None and b else ""


def _funnel_row(step: Row) -> dict[str, Any]:
    before, after = mapping(step.get("before")), mapping(step.get("after"))
    cells = [formatting.count(after.get("documents")), formatting.count(after.get("words"))]
    for key in ("documents", "words"):
        a, b = formatting.finite(after.get(key)), formatting.finite(before.get(key))
        cells.append(formatting.share(a / b) if a is not None and b else "–")
    return {"name": str(step.get("name")), "cells": cells}


def _reasons(steps: Sequence[Row]) -> list[dict[str, Any]]:
    rows = []
    for step in steps:
        total = formatting.finite(mapping(step.get("before")).get("documents")) or 0
        for reason, count in mapping(step.get("reasons")).items():
            documents = formatting.finite(mapping(count).get("documents")) or 0
            cells = [
                formatting.count(documents),
                formatting.share(documents / total) if total else "–",
                formatting.count(mapping(count).get("words")),
            ]
            rows.append((documents, {"name": f"{step.get('name')}: {reason}", "cells": cells}))
    return [row for _, row in sorted(rows, key=lambda item: -item[0])]


def _edits(steps: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {"name": f"{step.get('name')}: {kind}", "cells": [formatting.count(count)]}
        for step in steps
        for kind, count in mapping(step.get("edits")).items()
    ]


def _examples(steps: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "title": f"{step.get('name')}: {reason}",
            "documents": [
                {
                    "id": str(mapping(example).get("id")),
                    "text": str(mapping(example).get("text")),
                    "why": _why(mapping(example)),
                }
                for example in listing(shown)
            ],
        }
        for step in steps
        for reason, shown in mapping(step.get("examples")).items()
    ]


def _why(example: Row) -> str:
    value, threshold = (formatting.finite(example.get(key)) for key in ("value", "threshold"))
    if value is None:
        return ""
    return f"found {value:.4g}" + ("" if threshold is None else f", the limit is {threshold:.4g}")


def _clusters(found: Found) -> list[dict[str, Any]]:
    return [
        {
            "title": f"{formatting.count(mapping(cluster).get('size'))} documents ({name})",
            "documents": [
                {"id": str(mapping(each).get("id")), "text": str(mapping(each).get("text")), "why": ""}
                for each in listing(mapping(cluster).get("documents"))
            ],
        }
        for name, content in found.whole.items()
        if name.startswith("minhash")
        for cluster in listing(mapping(content).get("shown"))
    ]


def _paragraphs(found: Found) -> list[dict[str, Any]]:
    return [
        {"name": str(mapping(each).get("text")), "cells": [formatting.count(mapping(each).get("count"))]}
        for name, content in found.whole.items()
        if name.startswith("paragraphs")
        for each in listing(mapping(content).get("shown"))
    ]


def _benchmarks(found: Found) -> list[dict[str, Any]]:
    rows = []
    for content in found.whole.values():
        for each in map(mapping, listing(mapping(content).get("benchmarks"))):
            counts = [formatting.count(each.get(key)) for key in ("examples", "touched", "contaminated")]
            rows.append(
                {"name": str(each.get("name")), "cells": [*counts, formatting.share(each.get("mean_share"))]}
            )
    return rows


def _classifiers(found: Found) -> list[dict[str, Any]]:
    rows = []
    for name, content in found.whole.items():
        each = mapping(content)
        if formatting.finite(each.get("precision")) is not None:
            counts = [formatting.count(each.get(key)) for key in ("documents", "held_out")]
            shares = [formatting.share(each.get(key)) for key in ("precision", "recall", "accuracy")]
            rows.append({"name": name, "cells": [*counts, *shares]})
    return rows


def _source(source: Row) -> dict[str, Any]:
    problems = [str(problem) for problem in listing(source.get("problems"))]
    cells = [formatting.count(source.get("rows")), formatting.count(source.get("malformed"))]
    return {"name": str(source.get("path")), "cells": cells, "problems": problems}


def _languages(found: Found) -> list[dict[str, Any]]:
    total = sum(formatting.finite(count) or 0 for count in found.languages.values())
    return [
        {"name": str(name), "cells": [formatting.count(count), formatting.share(float(count) / total)]}
        for name, count in list(found.languages.items())[:20]
        if formatting.finite(count) is not None and total
    ]


def _funnel_plot(steps: Sequence[Row], dry_run: bool) -> Plot | None:
    """The share of the words and of the documents that is left after each step."""
    if len(steps) < 2 or dry_run:
        return None
    first = mapping(steps[0].get("before"))
    lines, told = [], []
    for number, key in enumerate(("documents", "words")):
        whole = formatting.finite(first.get(key))
        left = [formatting.finite(mapping(step.get("after")).get(key)) for step in steps]
        if not whole or any(value is None for value in left):
            return None
        shares = [100.0 * float(value or 0) / whole for value in left]
        lines.append(Line(range(len(shares)), shares, key, marker="o", **look(number)))
        told.append(f"{shares[-1]:.1f} % of the {key} are left")
    names = "; ".join(f"{number} {step.get('name')}" for number, step in enumerate(steps))
    return Plot(
        "What is left after each step",
        sentence(*told),
        "corpus-funnel",
        lines,
        x=_STEPS,
        y="% of what was read",
        note=names,
        sizes=HERO,
        scale="zero",
    )


def _length_plot(found: Found) -> Plot | None:
    edges, counts = listing(found.lengths.get("edges")), listing(found.lengths.get("counts"))
    if len(counts) < 2 or len(edges) != len(counts) + 1:
        return None
    powers = list(range(len(edges)))
    axis = XAxis(
        "words",
        "words of a document",
        lambda value: "0" if value < 1 else f"{2 ** (value - 1):,.0f}",
        whole=True,
    )
    most = max(range(len(counts)), key=lambda place: counts[place])
    told = f"most documents that are kept have {edges[most]:,} to {edges[most + 1]:,} words"
    return Plot(
        "Length of the kept documents",
        sentence(told),
        "corpus-lengths",
        [Histogram(powers, counts, "documents", **_plain_look())],
        x=axis,
        y="documents",
        scale="zero",
    )


def _plain_look() -> dict[str, Any]:
    return {"color": look(0)["color"]}


def _rule_plots(steps: Sequence[Row]) -> list[Plot]:
    """The distribution of what each rule measured, with its limits as far as documents broke them."""
    plots = []
    for step in steps:
        examples = mapping(step.get("examples"))
        for rule, values in mapping(step.get("values")).items():
            numbers = [value for value in map(formatting.finite, listing(values)) if value is not None]
            if len(numbers) < 10 or min(numbers) == max(numbers):
                continue
            heights, edges = np.histogram(numbers, bins=_BINS)
            marks: list[Any] = [Histogram(edges.tolist(), heights.tolist(), "documents", **_plain_look())]
            limits = {
                formatting.finite(mapping(example).get("threshold"))
                for example in listing(examples.get(rule))
            }
            known = [limit for limit in limits if limit is not None]
            if known:
                marks.append(Level(known, "limit", of="x"))
            axis = XAxis(rule, rule.replace("_", " "), lambda value: f"{value:.3g}")
            low, middle, high = min(numbers), float(np.median(numbers)), max(numbers)
            told = f"{rule}: median {middle:.4g}, from {low:.4g} to {high:.4g}"
            name = f"corpus-{step.get('name')}-{rule}".replace("#", "-")
            plots.append(
                Plot(
                    f"{step.get('name')}: {rule}",
                    sentence(told),
                    name,
                    marks,
                    x=axis,
                    y="documents",
                    scale="zero",
                )
            )
    return plots[:_MOST_RULES]


REPORT = ReportPart(
    view=corpus_view,
    template="corpus/report.html.jinja",
    place="instead of curves",
    facts=corpus_facts,
    title=corpus_title,
)
