"""The texts of data sets in any form, the held-out share, and rows that cannot be read."""

from __future__ import annotations

import json

import pytest

from hf_align.config import KeyProblem
from hf_align.errors import UserError
from hf_align.tokenization.corpus import check_held_out, held_out_texts, training_texts
from hf_align.tokenization.recipe import TextConfig


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"text": "a b"}, ["a b"]),
        ({"prompt": "a ", "completion": "b"}, ["a b"]),
        ({"instruction": "do", "input": "", "output": "done"}, ["do", "done"]),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}, ["q", "r"]),
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, ["q", "good", "bad"]),
        ({"prompt": "q", "answers": ["x", "y", "z"]}, ["q", "x", "y", "z"]),
    ],
)
def test_every_form_of_row_gives_its_texts(tmp_path, row, texts):
    path = _write(tmp_path / "a.jsonl", [row, row])
    assert list(training_texts(TextConfig(datasets=[path]))) == texts * 2
    assert [text.text for text in held_out_texts(TextConfig(datasets=[path]))] == texts * 2


def test_a_share_is_held_out_evenly_and_the_same_on_every_pass(tmp_path):
    path = _write(
        tmp_path / "a.jsonl", [{"text": f"row {n}", "lang": "en" if n % 2 else "de"} for n in range(20)]
    )
    config = TextConfig(datasets=[path], eval_split_size=0.25, report_by="lang")
    held_out = [(text.text, text.group) for text in held_out_texts(config)]
    assert held_out == [
        ("row 3", "en"),
        ("row 7", "en"),
        ("row 11", "en"),
        ("row 15", "en"),
        ("row 19", "en"),
    ]
    trained = list(training_texts(config))
    assert len(trained) == 15 and not {text for text, _ in held_out} & set(trained)
    assert list(training_texts(config)) == trained


def test_both_halves_count_bad_rows_alike(tmp_path):
    """Row 4 is held out and bad: a quarter of its half would be, and it is one of 16 in all."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(f'{{"text": {"1" if n == 4 else chr(34) + "t" + chr(34)}}}\n' for n in range(1, 17))
    )
    for allowed in (0.06, 0.07):
        config = TextConfig(datasets=[str(path)], eval_split_size=0.25, max_malformed_share=allowed)
        for texts, count in ((training_texts(config), 12), (held_out_texts(config), 3)):
            if allowed < 1 / 16:
                with pytest.raises(UserError, match=r"1 of 16 rows are malformed"):
                    list(texts)
            else:
                assert len(list(texts)) == count


def test_what_is_measured_on_is_looked_for_first(tmp_path):
    path = _write(tmp_path / "a.jsonl", [{"text": "t"}] * 9)
    check_held_out(TextConfig(datasets=[path], eval_split_size=0.2))
    with pytest.raises(
        UserError, match=r"eval_split_size: 0\.1 of the rows of each data set holds out no text"
    ):
        check_held_out(TextConfig(datasets=[path], eval_split_size=0.1))
    blank = _write(tmp_path / "b.jsonl", [{"text": " "}])
    with pytest.raises(UserError, match="eval_datasets: there is no text in them"):
        check_held_out(TextConfig(datasets=[path], eval_datasets=[blank], max_malformed_share=1))
    with pytest.raises(UserError, match="missing"):
        check_held_out(TextConfig(datasets=[path], eval_datasets=[path, str(tmp_path / "missing.jsonl")]))


def test_evaluation_sets_are_measured_whole(tmp_path):
    train = _write(tmp_path / "a.jsonl", [{"text": "a"}])
    other = _write(tmp_path / "b.jsonl", [{"text": "b"}, {"text": " "}])
    config = TextConfig(datasets=[train], eval_datasets=[other], max_malformed_share=0.5)
    assert [(text.text, text.source) for text in held_out_texts(config)] == [("b", other)]
    with pytest.raises(KeyProblem, match="only one of the two"):
        TextConfig(datasets=[train], eval_datasets=[other], eval_split_size=0.1)


def test_weights_are_refused():
    with pytest.raises(KeyProblem, match="a weight has no effect"):
        TextConfig(datasets=[{"path": "a.jsonl", "weight": 2}])


def test_bad_rows_are_counted_against_their_limit(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\nnot json\n{"text": "\\ud800"}\n')
    with pytest.raises(UserError, match=r"2 of 3 rows are malformed(.|\n)*a\.jsonl:2(.|\n)*a\.jsonl:3"):
        list(training_texts(TextConfig(datasets=[str(path)])))
    lenient = TextConfig(datasets=[str(path)], max_malformed_share=0.7)
    assert list(training_texts(lenient)) == ["good"]


def test_blank_text_alone_is_refused(tmp_path):
    path = _write(tmp_path / "a.jsonl", [{"text": " "}])
    with pytest.raises(UserError, match=r"datasets: .*a\.jsonl: there is no text to train on"):
        list(training_texts(TextConfig(datasets=[path], max_malformed_share=1)))
