"""The project's own preference sets: reproducible, balanced in length, held out, and right in each row."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.scripts import DATA, load_script

from hf_align.data.conversion.detection import resolve_format
from hf_align.data.conversion.formats import COMPARISON_FORMATS
from hf_align.data.reading.raw import RawRow
from hf_align.types import Comparison

PAIRS = ("pairs_en.jsonl", "pairs_heldout.jsonl")
RANKINGS = ("rankings_en.jsonl", "rankings_heldout.jsonl")
NAMES = (*PAIRS, *RANKINGS)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_script(DATA / "make_preferences.py")


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def compared(name: str) -> list[Comparison]:
    rows = [RawRow(f"{name}:{number}", row) for number, row in enumerate(read(name), start=1)]
    convert = resolve_format("auto", {}, rows[:50], where=name, formats=COMPARISON_FORMATS)
    assert convert.format == ("preference" if name in PAIRS else "ranking")
    return [convert(row) for row in rows]


def text_of(comparison: Comparison) -> str:
    assert not isinstance(comparison.prompt, str)
    return "\n".join(message.content for message in comparison.prompt)


def better_and_worse(comparison: Comparison) -> Iterator[tuple[str, str]]:
    answered = list(zip(comparison.answers, comparison.scores, strict=True))
    return ((one, other) for one, high in answered for other, low in answered if high > low)


def test_generator_reproduces_the_committed_files(maker: ModuleType, tmp_path: Path) -> None:
    assert maker.main(["--output", str(tmp_path)]) == 0
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_row_counts_and_every_row_is_well_formed() -> None:
    assert [len(compared(name)) for name in NAMES] == [400, 120, 150, 40]
    assert all(len(row.answers) == 2 for name in PAIRS for row in compared(name))
    assert all(len(row.answers) == 4 for name in RANKINGS for row in compared(name))


@pytest.mark.parametrize("name", PAIRS)
def test_length_says_nothing_about_pairs(name: str) -> None:
    rows = compared(name)
    longer = [len(row.answers[0]) > len(row.answers[1]) for row in rows]
    assert sum(longer) == len(rows) / 2
    faults = [row["fault"] for row in read(name)]
    for fault in set(faults):
        share = [is_longer for is_longer, one in zip(longer, faults, strict=True) if one == fault]
        assert 0.25 <= sum(share) / len(share) <= 0.75, fault


@pytest.mark.parametrize("name", RANKINGS)
def test_length_says_little_about_rankings(name: str) -> None:
    pairs = [pair for row in compared(name) for pair in better_and_worse(row)]
    assert 0.35 <= sum(len(better) > len(worse) for better, worse in pairs) / len(pairs) <= 0.65


def test_rankings_have_ties_and_count_faults() -> None:
    rows = [row for name in RANKINGS for row in read(name)]
    for row in rows:
        assert row["scores"] == [3 - len(faults) for faults in row["faults"]]
        assert len(set(row["scores"])) >= 3
    ties = Counter(len(set(row["scores"])) for row in rows)
    assert min(ties[3], ties[4]) > 30


def test_every_fault_is_met_often_enough() -> None:
    for name, least in zip(PAIRS, (30, 8), strict=True):
        counts = Counter(row["fault"] for row in read(name))
        assert set(counts) == {"style", "wrong", "evasive", "rude", "form", "invented"}
        assert min(counts.values()) >= least
        turns = Counter(len(row["prompt"]) for row in read(name))
        assert set(turns) == {1, 3} and turns[1] > 4 * turns[3] > 0


@pytest.mark.parametrize("name", PAIRS)
def test_each_answer_has_the_fault_that_the_row_names_and_no_other(maker: ModuleType, name: str) -> None:
    words = sys.modules["preference_words"]
    for row, pair in zip(read(name), compared(name), strict=True):
        good, bad = pair.answers
        prompt, fault = text_of(pair), row["fault"]
        assert maker.in_house_style(good), good
        assert maker.in_house_style(bad) == (fault != "style"), bad
        rude = [phrase for phrase in words.RUDE if phrase in bad]
        assert bool(rude) == (fault == "rude")
        made_up = [*words.INVENTED, *(guess for desk in words.DESKS for _, guess in desk.unknown)]
        assert any(phrase in bad for phrase in made_up) == (fault == "invented")
        assert any(phrase in bad for phrase in words.EVASIONS) == (fault == "evasive")
        for phrase in (*words.RUDE, *made_up, *words.EVASIONS):
            assert phrase not in good
        asked = [key for key, (request, _) in maker.FORMS.items() if request in prompt]
        assert bool(asked) == (fault == "form")
        for answer in (good, bad):
            facts = _facts(answer, words)
            wrong = [value for value in facts if not _says(prompt, value.strip('"'))]
            assert bool(wrong) == (fault == "wrong" and answer is bad), (answer, wrong)
        if fault == "form":
            formed, plain = _facts(good, words)[0], _facts(bad, words)[0]
            assert formed == maker.FORMS[asked[0]][1](plain) != plain


def _says(prompt: str, value: str) -> bool:
    """Whether the prompt has this value as a whole: room 3 is not in room 31."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", prompt, re.IGNORECASE) is not None


def _facts(answer: str, words: ModuleType) -> list[str]:
    """The values that the sentences of an answer give, in order."""
    found = []
    for desk in words.DESKS:
        if f"{desk.name} " not in answer.rpartition("Anything else about ")[2] and "Anything else" in answer:
            continue
        for field in desk.fields.values():
            head, _, tail = field.says.partition("{value}")
            start = answer.find(head)
            if start >= 0:
                end = answer.index(tail, start + len(head))
                found.append((start, answer[start + len(head) : end]))
    return [value for _, value in sorted(found)]


def test_held_out_prompts_are_new(maker: ModuleType) -> None:
    words = sys.modules["preference_words"]
    for train, heldout in (PAIRS, RANKINGS):
        seen = "\n".join(map(text_of, compared(train)))
        for desk in words.DESKS:
            for *known, new in (desk.records, *(field.questions for field in desk.fields.values())):
                assert len({*known, new}) == len(known) + 1
                assert new not in seen
            for field in desk.fields.values():
                assert not set(field.heldout) & set(field.values)
        for row in compared(heldout):
            assert not any(message.content in seen for message in row.prompt if message.role == "user")
    references = [set(re.findall(r"\b\d{4}\b", "\n".join(map(text_of, compared(name))))) for name in NAMES]
    assert all(references)
    assert not (references[0] | references[2]) & (references[1] | references[3])


def test_the_house_style_is_recognised(maker: ModuleType) -> None:
    assert maker.in_house_style("It costs 3 euros. Anything else about order 1234? Just ask.")
    assert not maker.in_house_style("It costs 3 euros.")
    assert not maker.in_house_style("Great question! It is blue. Anything else about order 1234? Just ask.")
    assert not maker.in_house_style("Anything else about order 1234? Just ask. It costs 3 euros.")
    assert not maker.in_house_style("It costs 3 euros. Anything else about it? Just ask.")
