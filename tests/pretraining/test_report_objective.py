"""The page and the coloured text of a batch show each token that was hidden, replaced, kept or taken out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers.pretraining_tokenizers import (
    SENTENCES,
    byte_level_bpe_tokenizer,
    unigram_tokenizer,
    wordpiece_tokenizer,
)

from hf_align.pretraining.collators import OBJECTIVES, make_collator
from hf_align.pretraining.collators.show import encode_texts
from hf_align.pretraining.report_objective import (
    KINDS,
    ExampleLine,
    example_lines,
    lines_terminal,
    render_page,
)
from hf_align.types import IGNORE_INDEX

TEXTS = [" ".join(SENTENCES[:3]), " ".join(SENTENCES[3:])]


def tokenizer_of(name: str) -> Any:
    if OBJECTIVES[name].architecture == "encoder":
        return wordpiece_tokenizer()
    return byte_level_bpe_tokenizer() if name in ("text_infilling", "causal") else unigram_tokenizer()


def figure(name: str, **options: Any) -> tuple[Any, list[dict[str, Any]], list[list[ExampleLine]]]:
    """The tokenizer, each example's batch, and what is shown of it."""
    tokenizer = tokenizer_of(name)
    collator = make_collator(name, tokenizer, **options)
    examples = encode_texts(name, tokenizer, TEXTS, max_length=64)
    batches = [{key: tensor[0].numpy() for key, tensor in collator([one]).items()} for one in examples]
    return tokenizer, batches, example_lines(name, tokenizer, collator, examples)


def kinds_of(lines: list[ExampleLine], name: str) -> list[tuple[str, ...]]:
    (line,) = (line for line in lines if line.name == name)
    return [token.kinds for token in line.tokens]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_a_page_and_colours(name: str) -> None:
    _, _, figures = figure(name)
    page = render_page(name, figures, None)
    assert OBJECTIVES[name].title in page and page.count('<dl class="figure">') == len(figures)
    present = {kind for lines in figures for line in lines for token in line.tokens for kind in token.kinds}
    assert present <= KINDS.keys()
    for kind in present:
        assert re.search(rf'<span class="[^"]*\b{kind}\b', page.partition("<h3>")[2]), kind
    colours = lines_terminal(figures[0])
    assert "\x1b[" in colours and len(colours.splitlines()) == len(figures[0])


@pytest.mark.parametrize("name", ["mlm", "wwm", "mlm_nsp", "sop", "span_mlm"])
def test_what_became_of_each_chosen_token_is_told(name: str) -> None:
    shares = {"mask_probability": 0.4, "random_probability": 0.3}
    tokenizer, batches, figures = figure(name, **shares, mlm_probability=0.5)
    seen = set()
    for batch, lines in zip(batches, figures, strict=True):
        ids, labels = batch["input_ids"], batch["labels"]
        (inputs,) = (line for line in lines if line.name == "inputs")
        assert len(inputs.tokens) == len(ids)
        for id, label, token in zip(ids.tolist(), labels.tolist(), inputs.tokens, strict=True):
            chosen = {"mask", "random", "kept"} & {*token.kinds}
            assert bool(chosen) == bool(token.hides) == (label != IGNORE_INDEX)
            if label != IGNORE_INDEX:
                expected = "mask" if id == tokenizer.mask_token_id else "kept" if id == label else "random"
                assert chosen == {expected}
                assert token.hides == tokenizer.convert_ids_to_tokens(label)
                seen.add(expected)
        if "token_type_ids" in batch:
            assert sum("second" in token.kinds for token in inputs.tokens) == batch["token_type_ids"].sum()
    assert seen == {"mask", "random", "kept"}


def test_the_borders_of_spans_are_outlined() -> None:
    _, batches, figures = figure("span_mlm")
    for batch, lines in zip(batches, figures, strict=True):
        chosen = batch["labels"] != IGNORE_INDEX
        edges = {*batch["left_boundary"][chosen].tolist(), *batch["right_boundary"][chosen].tolist()}
        assert {place for place, kinds in enumerate(kinds_of(lines, "inputs")) if "edge" in kinds} == edges


def test_spans_of_text_and_their_sentinels_have_the_same_number() -> None:
    tokenizer, _, figures = figure("span_corruption", noise_density=0.4, mean_span_length=2)
    for lines, text in zip(figures, TEXTS, strict=True):
        by_name = {line.name: line for line in lines}
        whole = "".join(token.text for token in by_name["text"].tokens)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert whole == tokenizer.decode(ids[:64])
        gone: dict[int, str] = {}
        for token in by_name["text"].tokens:
            if "gone" in token.kinds:
                gone[token.span] = gone.get(token.span, "") + token.text
        assert len(gone) > 2
        written: dict[int, str] = {}
        for token in by_name["targets"].tokens:
            if "sentinel" in token.kinds:
                written[token.span] = ""
                assert token.text == f"<extra_id_{token.span}>"
            elif token.text != "</s>":
                written[token.span] += token.text
        assert {span: part.strip() for span, part in gone.items()} == {
            span: part.strip() for span, part in written.items()
        }
        marks = [token.span for token in by_name["inputs"].tokens if "sentinel" in token.kinds]
        assert marks == sorted(gone)


def test_documents_that_do_not_see_each_other_stand_apart() -> None:
    tokenizer = byte_level_bpe_tokenizer()
    ids = tokenizer(TEXTS[0], add_special_tokens=False).input_ids[:20]
    example = {"input_ids": np.array(ids), "segment_lengths": [12, 8], "index": 0, "epoch": 0}
    (lines,) = example_lines("causal", tokenizer, make_collator("causal", tokenizer), [example])
    assert [(line.name, len(line.tokens)) for line in lines] == [("document 1", 12), ("document 2", 8)]
    for line in lines:
        assert [token.kinds for token in line.tokens] == [("read",)] + [("written",)] * (len(line.tokens) - 1)


def test_what_stands_in_the_text_is_escaped() -> None:
    tokenizer = byte_level_bpe_tokenizer()
    examples = encode_texts("causal", tokenizer, ["a <script>alert(1)</script> b"])
    page = render_page(
        "causal", example_lines("causal", tokenizer, make_collator("causal", tokenizer), examples), None
    )
    assert "<script" not in page
