"""Sampled answers in their file: they come back, and a batch that was cut off does not."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.tiny_best_of_n import answered_by

from hf_align.best_of_n.answers import append_answers, digest, read_answers, write_answers
from hf_align.errors import UserError


def test_answers_survive_the_file(tmp_path):
    answered = answered_by(["你好\u2028", "b\n"], [1.0, 1 / 3])
    write_answers(tmp_path / "samples.jsonl", [answered])
    assert read_answers(tmp_path / "samples.jsonl") == {"k1": answered}
    assert read_answers(tmp_path / "none.jsonl") == {}


def test_a_batch_that_was_cut_off_is_taken_out(tmp_path):
    path = tmp_path / "samples.jsonl"
    whole = [
        dataclasses.replace(answered_by(["a"], [1.0]), key=f"w{i}", batch="one", batch_size=2) for i in (0, 1)
    ]
    half = dataclasses.replace(answered_by(["b"], [1.0]), key="h", batch="two", batch_size=2)
    append_answers(path, [*whole, half])
    with path.open("ab") as stream:
        stream.write(b'{"prompt": "cut of')
    assert list(read_answers(path)) == ["w0", "w1"]
    assert path.read_bytes() == b"".join(each.line() for each in whole)


def test_a_line_of_another_kind(tmp_path):
    path = tmp_path / "samples.jsonl"
    wrong = dataclasses.replace(answered_by(["a", "b"], [1.0, 2.0]), stopped=[True])
    for line in (b'{"text": "x"}\n', b"no json\n", wrong.line()):
        path.write_bytes(line)
        with pytest.raises(UserError, match=r"samples\.jsonl:1: this is no line that best-of-n wrote"):
            read_answers(path)


def test_a_digest_is_of_the_content():
    assert digest({"a": 1}) == digest({"a": 1}) != digest({"a": 2}) and len(digest([])) == 32
