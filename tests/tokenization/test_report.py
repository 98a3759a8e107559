"""What a tokenizer run shows: what was made, what it gains in each script, and texts cut into pieces."""

from __future__ import annotations

from typing import Any

import pytest

from hf_align.tokenization.report import (
    largest_gain,
    segmentation_html,
    tokenizer_facts,
    tokenizer_title,
    tokenizer_view,
)


def counts(tokens: int, characters: int = 100) -> dict[str, int]:
    return {"texts": 1, "characters": characters, "bytes": 2 * characters, "words": 20, "tokens": tokens}


def result(name: str, latin: int, han: int) -> dict[str, Any]:
    by = {"source": {}, "column": {}, "script": {"Latin": counts(latin), "Chinese (Han)": counts(han)}}
    return {"name": name, "vocab_size": 5000, "total": counts(latin + han, 200), "by": by, "used_share": 0.5}


RECORD: dict[str, Any] = {
    "command": "tokenizer",
    "recipe": {"tokenizer_type": "byte_level_bpe", "vocab_size": 8192},
    "tokenizer": {"figures": [result("new", 25, 50), result("old", 25, 150)]},
}


def test_titles() -> None:
    assert tokenizer_title({"recipe": RECORD["recipe"]}) == "Byte-level BPE tokenizer, 8,192 tokens"
    # Too little text for as many.
    assert tokenizer_title(RECORD) == "Byte-level BPE tokenizer, 5,000 tokens"
    extended = {"recipe": {"extend": "models/base"}, "extension": {"count": 2000}}
    assert tokenizer_title(extended) == "base, 2,000 tokens added"


def test_the_script_that_gains_the_most() -> None:
    gain = largest_gain(RECORD["tokenizer"]["figures"])
    assert gain is not None and (gain.script, gain.before, gain.after) == ("Chinese (Han)", 1.5, 0.5)
    assert largest_gain(RECORD["tokenizer"]["figures"][:1]) is None


def test_headlines_and_page() -> None:
    facts = {fact.label: fact.value for fact in tokenizer_facts(RECORD)}
    assert facts["Vocabulary"] == "5,000" and facts["Compression"] == "2.67"
    view = tokenizer_view(RECORD)
    assert view is not None and view["tables"]


@pytest.mark.parametrize("missing", ["recipe", "tokenizer"])
def test_whatever_is_missing(missing: str) -> None:
    assert tokenizer_view({**RECORD, missing: {}}) is not None


def test_pieces_from_the_data_are_text() -> None:
    html = segmentation_html([["<b>", 1, False], ["é", 2, False], ["?", 1, True]])
    assert "<b>" not in html and "&lt;b&gt;" in html and "é" in html
