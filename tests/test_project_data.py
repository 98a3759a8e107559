"""The project's own data sets: reproducible, checkable, and truly held out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.scripts import DATA, load_script

GENERATED = ("orders_en.jsonl", "orders_zh.jsonl", "orders_heldout.jsonl")


@pytest.fixture(scope="module")
def make_data() -> ModuleType:
    return load_script(DATA / "make_data.py")


def read_jsonl(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def orders(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(row["output"]) for row in rows]


def test_generator_reproduces_the_committed_files(make_data: ModuleType, tmp_path: Path) -> None:
    assert make_data.main(["--output", str(tmp_path)]) == 0
    for name in GENERATED:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_row_counts() -> None:
    assert [len(read_jsonl(name)) for name in GENERATED] == [500, 120, 100]


@pytest.mark.parametrize("name", GENERATED)
def test_every_answer_is_one_line_of_json_in_one_form(name: str) -> None:
    for row in read_jsonl(name):
        assert set(row) == {"instruction", "input", "output"}
        assert "\n" not in row["output"]
        order = json.loads(row["output"])
        assert list(order) == ["item", "quantity", "city", "date"]
        assert 2 <= order["quantity"] <= 40
        assert re.fullmatch(r"(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])", order["date"])
        assert order["city"] in row["input"]
        assert order["item"].lower() in row["input"].lower()


def test_words_for_numbers_and_dates(make_data: ModuleType) -> None:
    assert make_data.quantities_en(12) == ["12", "twelve", "twelve", "a dozen"]
    assert make_data.quantities_en(6)[-1] == "half a dozen"
    assert make_data.quantities_en(20)[1] == "twenty"
    assert make_data.quantities_en(21) == ["21"]
    assert make_data.dates_en(5, 22) == ["22 May", "May 22", "May 22nd", "the 22nd of May"]
    assert [make_data.ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 23)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "23rd"]
    )
    assert [make_data.number_zh(number) for number in (2, 10, 12, 20, 35)] == [
        "二",
        "十",
        "十二",
        "二十",
        "三十五",
    ]
    assert make_data.quantities_zh(2) == ["2", "两"]
    assert make_data.dates_zh(10, 15) == ["10月15日", "10月15号", "十月十五日"]


def test_every_order_says_what_its_answer_says(make_data: ModuleType) -> None:
    for name in GENERATED:
        rows = read_jsonl(name)
        for row, order in zip(rows, orders(rows), strict=True):
            chinese = not row["input"].isascii()
            language = make_data.CHINESE if chinese else make_data.ENGLISH
            month, day = map(int, order["date"].split("-"))
            text = row["input"].lower()
            assert any(form.lower() in text for form in language.write_date(month, day)), row
            assert any(form in text for form in language.write_quantity(order["quantity"])), row


def test_heldout_rows_share_no_frame_with_training(make_data: ModuleType) -> None:
    for language in (make_data.ENGLISH, make_data.CHINESE):
        assert not set(language.train_frames) & set(language.heldout_frames)
        assert not set(language.train_items) & set(language.heldout_items)
        assert not set(language.train_cities) & set(language.heldout_cities)
        for words in (language.train_frames, language.train_items, language.train_cities):
            assert len(set(words)) == len(words)


def test_heldout_rows_are_new_in_words_or_combination() -> None:
    train = orders(read_jsonl("orders_en.jsonl")) + orders(read_jsonl("orders_zh.jsonl"))
    pairs = {(order["item"], order["city"]) for order in train}
    items, cities = {item for item, _ in pairs}, {city for _, city in pairs}
    texts = {row["input"] for name in GENERATED[:2] for row in read_jsonl(name)}
    heldout = read_jsonl("orders_heldout.jsonl")
    assert not texts & {row["input"] for row in heldout}
    new_words = 0
    for order in orders(heldout):
        assert (order["item"], order["city"]) not in pairs
        new_words += order["item"] not in items and order["city"] not in cities
    # Half the rows are drawn from words kept out of training; a known word may be unseen by chance.
    assert 50 <= new_words <= 60


def test_chat_rows_alternate_and_end_with_an_answer() -> None:
    rows = read_jsonl("chat_multiturn.jsonl")
    assert 20 <= len(rows) <= 40
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert turns and all(message["content"].strip() for message in row["messages"])
    assert any(row["messages"][0]["role"] == "system" for row in rows)
    assert any(row["messages"][0]["role"] != "system" for row in rows)


def test_sharegpt_rows_alternate_and_end_with_an_answer() -> None:
    rows = json.loads((DATA / "style_sharegpt.json").read_text(encoding="utf-8"))
    assert len(rows) >= 10
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        senders = [turn["from"] for turn in row["conversations"]]
        assert senders == ["human", "gpt"] * (len(senders) // 2) and senders
        assert all(turn["value"].strip() for turn in row["conversations"])


def test_files_are_small_and_listed() -> None:
    listed = (DATA / "README.md").read_text(encoding="utf-8")
    for path in DATA.glob("*.json*"):
        assert path.stat().st_size < 400 * 1024
        assert f"`{path.name}`" in listed


def test_evaluation_tasks_are_reproduced(tmp_path: Path) -> None:
    assert load_script(DATA / "make_evaluation.py").main(["--output", str(tmp_path)]) == 0
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(DATA / "evaluation") for path in (DATA / "evaluation").rglob("*.*"))
    assert made == kept and len(made) == 7
    for name in made:
        assert (tmp_path / name).read_bytes() == (DATA / "evaluation" / name).read_bytes(), name


def test_chinese_prose_is_short_and_its_held_out_part_is_new() -> None:
    texts = [row["text"] for row in read_jsonl("texts_zh.jsonl")]
    assert len(texts) == 48
    assert all(50 <= len(text) <= 150 for text in texts)
    assert all(re.fullmatch(r"[\u3001-\u3002\u4e00-\u9fff\uff01-\uff1f]+", text) for text in texts)
    # No sentence of a held-out text is one of training.
    sentences = [
        {part for part in re.split(r"[\u3001-\u3002\uff01-\uff1f]", text) if len(part) > 6} for text in texts
    ]
    assert not set().union(*sentences[:40]) & set().union(*sentences[40:])
