"""Which tokens of a row are trained: as terminal text, as HTML, and as an entry of the run record.

A row that compares answers shows what they share once, then each answer from the token that predicts its
first one, with its score and how it compares. How the mask is made is up to ``hf_align.data``, how tokens
become text to ``token_view``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from hf_align.reporting.token_view import marked_tokens, tokens_html, tokens_terminal
from hf_align.runs import formatting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_align.types import ComparisonRow, TokenizedRow

    Row = TokenizedRow | ComparisonRow

T = TypeVar("T")


def mask_sample(row: Row, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """``{"source", "tokens": [[text, is_target], …]}`` with one entry a token, for the run record.

    Where answers are compared, ``tokens`` are those that they share, and ``answers`` holds the ``tokens`` and
    the ``score`` of each; ``margin`` is there where the row has one.
    """
    if not hasattr(row, "branches"):
        return {"source": row.source, "tokens": marked_tokens(row, tokenizer)}
    shared = len(row.prefix)
    # Decoded with what comes before: a branch alone would lose its first space.
    sequences = [marked_tokens(row.sequence(k), tokenizer) for k in range(len(row.branches))]
    answers = [
        {"score": float(score), "tokens": tokens[shared:]}
        for score, tokens in zip(row.scores, sequences, strict=True)
    ]
    margin = {} if row.margin is None else {"margin": row.margin}
    return {"source": row.source, "tokens": sequences[0][:shared], "answers": answers, **margin}


def choose_rows(rows: Any, wanted: int) -> list[Row]:
    """Rows spread evenly over a list, or the first ones of a stream."""
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        return list(islice(iter(rows), wanted))
    return spread(rows, wanted)


def spread(items: Sequence[T], wanted: int) -> list[T]:
    """At most ``wanted`` items, evenly from the whole list and in its order."""
    number = min(wanted, len(items))
    # The middles of equal parts, so that a small last source is met too.
    return [items[(2 * position + 1) * len(items) // (2 * number)] for position in range(number)]


def standings(scores: Sequence[float]) -> list[str]:
    """How each answer compares with the others, in words."""
    if len(scores) == 1:
        return ["desirable" if scores[0] > 0 else "undesirable"]
    if len(scores) == 2:
        return ["tied" if a == b else "better" if a > b else "worse" for a, b in (scores, scores[::-1])]
    words = []
    for score in scores:
        counts = {
            "beats": sum(other < score for other in scores),
            "ties with": sum(other == score for other in scores) - 1,
            "loses to": sum(other > score for other in scores),
        }
        words.append(", ".join(f"{word} {count}" for word, count in counts.items() if count))
    return words


def render_terminal(row: Row, tokenizer: PreTrainedTokenizerBase, *, color: bool = False) -> str:
    """The row with its trained tokens in colour, or between ⟦ and ⟧ where ``color`` is False."""
    sample = mask_sample(row, tokenizer)
    parts = [tokens_terminal(sample["tokens"], color=color)]
    for answer in sample_view(sample)["answers"]:
        parts += [f"-- {answer['title']}", tokens_terminal(answer["entries"], color=color)]
    return parts[0] if len(parts) == 1 else "\n".join(part.rstrip("\n") for part in parts) + "\n"


def sample_view(sample: Any) -> dict[str, Any]:
    """A mask sample of a run record for the template.

    ``source``; ``tokens`` and ``trained``, counted through all answers; ``html`` of the tokens, or of those
    that the answers share; ``answers``, each with a ``title``, its ``html`` and its token ``entries``;
    ``shared``: in words, how much they share.
    """
    record = sample if isinstance(sample, dict) else {}
    tokens = _entries(record)
    listed = record.get("answers")
    given = [answer for answer in listed if isinstance(answer, dict)] if isinstance(listed, list) else []
    scores = [formatting.finite(answer.get("score")) or 0.0 for answer in given]
    answers = []
    for number, (answer, score, standing) in enumerate(zip(given, scores, standings(scores), strict=True), 1):
        entries = _entries(answer)
        trained = sum(flag for _, flag in entries)
        counts = f"{trained:,} of {len(entries):,} tokens trained"
        title = f"Answer {number}: {standing} (score {score:g}; {counts})"
        answers.append({"title": title, "html": tokens_html(entries), "entries": entries})
    everything = [*tokens, *(entry for answer in answers for entry in answer["entries"])]
    margin = formatting.finite(record.get("margin"))
    return {
        "source": str(record.get("source") or ""),
        "tokens": len(everything),
        "trained": sum(trained for _, trained in everything),
        "html": tokens_html(tokens),
        "answers": answers,
        "shared": f"{len(tokens):,} tokens shared" + (f", margin {margin:g}" if margin is not None else ""),
    }


def _entries(record: dict[str, Any]) -> list[tuple[str, bool]]:
    """The well-formed entries of a list of marked tokens."""
    listed = record.get("tokens")
    return [
        (str(token[0]), bool(token[1]))
        for token in (listed if isinstance(listed, list) else [])
        if isinstance(token, list | tuple) and len(token) == 2
    ]


def render_html(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, report: Any) -> str:
    """One self-contained page that shows the mask of ``rows``, with the counts and the data report.

    ``report``: a DataReport, its dictionary, or None.
    """
    from hf_align.reporting.data_view import data_view
    from hf_align.reporting.page import render_template

    to_dict = getattr(report, "to_dict", None)
    samples = [sample_view(mask_sample(row, tokenizer)) for row in rows]
    return render_template(
        "mask.html.jinja", samples=samples, data=data_view(to_dict() if callable(to_dict) else report)
    )
