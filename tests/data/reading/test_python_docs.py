"""The corpus that Python carries: its size, order, splits and areas, and what it asks of the installation."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import pytest

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.reading.python_areas import AREAS, OTHER, REFERENCE, area_of
from hf_align.data.reading.python_docs import LONGEST, is_held_out, python_documents, read_python_docs
from hf_align.data.reading.sources import read_rows
from hf_align.data.store.fingerprint import files_of
from hf_align.errors import UserError


@pytest.fixture(scope="module")
def documents():
    return python_documents()


def test_it_is_about_two_million_characters_of_documents_that_fit_a_context(documents):
    assert 1_600_000 < sum(len(document.text) for document in documents) < 2_600_000
    assert max(len(document.text) for document in documents) <= LONGEST
    parts = Counter(document.module for document in documents)
    assert [document.part for document in documents] == [
        part for count in parts.values() for part in range(1, count + 1)
    ]


def test_no_docstring_comes_twice(documents):
    paragraphs = [
        " ".join(paragraph.split()) for document in documents for paragraph in document.text.split("\n\n")
    ]
    # Where a long paragraph is cut into several documents, two of them may end alike.
    long = Counter(paragraph for paragraph in paragraphs if 80 <= len(paragraph) < 1000)
    assert sum(count - 1 for count in long.values()) <= 3
    assert sum("random integer in range [a, b], including both end points" in p for p in paragraphs) == 1


def test_what_is_written_in_the_sources_is_in_it(documents):
    texts = {document.module: document.text for document in documents if document.part == 1}
    assert texts["textwrap"].startswith("Text wrapping and filling.")
    assert texts["json"].startswith("JSON (JavaScript Object Notation) <https://json.org>")
    assert texts["topics.while"].startswith('The "while" statement\n')
    assert "\r" not in "".join(texts.values()) and "\x08" not in "".join(texts.values())


def test_another_process_finds_the_same_and_imports_nothing(documents):
    code = (
        "import hashlib, sys; from hf_align.data.reading.python_docs import python_documents as d;"
        "before = set(sys.modules); found = hashlib.md5(repr(d()).encode()).hexdigest();"
        "print(found, *sorted(set(sys.modules) - before))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    digest, *imported = seen.stdout.split()
    assert digest == hashlib.md5(repr(documents).encode()).hexdigest()
    # Importing these prints a poem, opens a browser, opens a window.
    assert not {"this", "antigravity", "turtle", "pydoc_data.topics"} & set(imported)


def test_every_area_has_text_in_both_splits(documents):
    sizes, held_out = Counter(), Counter()
    for document in documents:
        sizes[document.area] += len(document.text)
        held_out[document.area] += len(document.text) * is_held_out(document.module)
    assert set(sizes) <= set(AREAS)
    assert sizes[OTHER] < 0.01 * sizes.total()
    for area in set(AREAS) - {OTHER}:
        assert sizes[area] > 50_000, area
        assert 0.03 < held_out[area] / sizes[area] < 0.17, area
    assert 0.08 < held_out.total() / sizes.total() < 0.12


def test_areas_follow_the_library_reference():
    assert area_of("email.message") == "formats"
    assert area_of("asyncio.locks") == "concurrency"
    assert area_of("decimal") == "numbers"
    assert area_of("no_such_module") == OTHER


def test_splits_are_parts_of_the_whole_and_share_no_module():
    rows = {split: list(read_python_docs(split)) for split in ("train", "test", "all")}
    places = {split: [row.place for row in rows[split]] for split in rows}
    assert sorted(places["train"] + places["test"]) == sorted(places["all"])
    modules = {split: {row.values["module"] for row in rows[split]} for split in rows}
    assert not modules["train"] & modules["test"]
    assert {row.values["area"] for row in rows["all"]} >= {REFERENCE, "text"}


def test_it_is_a_source_like_any_other():
    rows = list(read_rows(DatasetConfig(path="python_docs", max_rows=3)))
    assert [set(row.values) for row in rows] == [{"text", "module", "area"}] * 3
    with pytest.raises(UserError, match=r"python_docs: found the split 'tst'.*Did you mean 'test'"):
        read_rows(DatasetConfig(path="python_docs", split="tst"))
    with pytest.raises(UserError, match="has no configurations"):
        read_rows(DatasetConfig(path="python_docs", name="en"))
    files = files_of(DatasetConfig(path="python_docs"))
    assert len(files.paths) > 200 and files.prefix == "python_docs"


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python_docs").mkdir()
    (tmp_path / "python_docs" / "a.txt").write_text("mine\n")
    assert [row.values for row in read_rows(DatasetConfig(path="python_docs"))] == [{"text": "mine"}]


def test_it_streams_and_prepares_like_any_other(tmp_path):
    from helpers.chat_tokenizers import byte_level_tokenizer

    from hf_align.data.prepare import prepare_datasets

    tokenizer = byte_level_tokenizer()
    dataset = {"path": "python_docs", "max_rows": 8}
    options = {"max_length": 64, "overlong": "truncate"}
    whole = prepare_datasets(DataConfig(datasets=[dataset], **options), tokenizer, seed=0)
    assert len(whole.train) == 8
    stream = prepare_datasets(DataConfig(datasets=[dataset], streaming=True, **options), tokenizer, seed=0)
    assert sorted(row.source for row in stream.train) == sorted(row.source for row in whole.train)


QUOTED = "A paragraph that is long enough to be told from a turn of phrase, and that is repeated."


def _library(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text, encoding="utf-8")


def test_extraction_by_hand(tmp_path):
    _library(
        tmp_path,
        b='"""Module b does things."""\nclass C:\n    """A class\n\n      with an indent."""\n'
        '    def f(self):\n        "Single"\n    def g(self):\n        "Module b  does things."\n'
        f'    def q(self):\n        """Quoting {QUOTED}\n\n{QUOTED}"""\n'
        'def h():\n    async def i():\n        "An inner function."\n',
        a="x = 1\n",
        broken="def (\n",
        test__t='"""Left out as a test."""\n',
        pydoc_data__topics='topics = {"zeta": "The last topic.", "alpha beta": "Two words.\\n\\n'
        f'{QUOTED}"}}\n',
    )
    found = python_documents(tmp_path)
    assert [(d.module, d.area, d.text) for d in found] == [
        (
            "b",
            OTHER,
            "Module b does things.\n\nA class\n\nwith an indent.\n\n"
            f"Quoting {QUOTED}\n\n{QUOTED}\n\nAn inner function.",
        ),
        ("topics.alpha_beta", REFERENCE, "Two words."),
        ("topics.zeta", REFERENCE, "The last topic."),
    ]


def test_long_texts_are_cut_at_paragraphs_then_lines_then_words(tmp_path):
    paragraph = "word " * 400 + "end."
    line = "x" * (LONGEST + 10)
    other = paragraph.replace("word", "more")
    _library(tmp_path, m=f'"""{paragraph}\n\n{other}\n\n{line} y"""', pydoc_data__topics="topics = {}")
    texts = [document.text for document in python_documents(tmp_path)]
    assert texts == [paragraph, other, line[:LONGEST], line[LONGEST:] + " y"]


@pytest.mark.parametrize("files", [{}, {"a": '"""Some words."""'}])
def test_an_installation_without_sources_is_named(tmp_path, files):
    _library(tmp_path, **files)
    with pytest.raises(UserError, match="this Python has no source files of its standard library"):
        python_documents(tmp_path)
