"""Functions of the user: loaded by path, called with texts, and every mistake named with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hf_align.errors import UserError
from hf_align.rewards import functions
from hf_align.rewards.functions import call_function, load_function

PLACES = ["d.jsonl:1", "d.jsonl:2", "d.jsonl:3"]
TEXTS = ["a", "bb", "ccc"]
ROWS = [{"k": 1}, {"k": 2}, {"k": 3}]


@pytest.fixture(autouse=True)
def _without_a_pause(monkeypatch):
    monkeypatch.setattr(functions, "PAUSE", 0.0)


def _file(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def _call(function, name="mine.py:score"):
    return call_function(function, name, TEXTS, TEXTS, ROWS, places=PLACES)


def test_a_function_gets_prompts_completions_and_rows(tmp_path):
    source = "def score(prompts, completions, rows):\n"
    source += (
        "    return [len(c) + 10 * r['k'] + 100 * len(p) for p, c, r in zip(prompts, completions, rows)]\n"
    )
    function, _ = load_function(_file(tmp_path, source), "score")
    assert _call(function).tolist() == [111.0, 222.0, 333.0]


@pytest.mark.parametrize(
    "returned",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3], dtype=np.float32),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16),
        [np.float32(1), torch.tensor(2), True + 2],
        (x for x in [1, 2, 3]),
    ],
    ids=["list", "tuple", "numpy", "torch", "mixed", "generator"],
)
def test_what_may_be_returned(returned):
    found = _call(lambda *_: returned)
    assert found.dtype == np.float64
    assert found.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ([1, 2], "returned 2 numbers for 3 completions.*first without one is the answer to d.jsonl:3"),
        ([1, 2, 3, 4], "returned 4 numbers for 3 completions"),
        ([], "returned 0 numbers.*first without one is the answer to d.jsonl:1"),
        (1.5, "returned a float; expected a list of 3 numbers"),
        (None, "returned a NoneType"),
        ([1, 2, 1e308], r"returned 1e\+308 for the answer .* number of single precision, below 3.4e38"),
        ([1, 2, 10**400], r"returned 10+ … 0+ for the answer to d.jsonl:3"),
        ([1, float("nan"), 3], r"returned nan for the answer to d.jsonl:2 \(number 2 of 3: 'bb'\)"),
        ([1, 2, float("inf")], "returned inf for the answer to d.jsonl:3"),
        (["1", 2, 3], "returned '1' for the answer to d.jsonl:1"),
        ("abc", "returned 'a' for the answer to d.jsonl:1"),
        ([torch.zeros(2), 2, 3], "for the answer to d.jsonl:1"),
    ],
)
def test_wrong_returns(returned, words):
    with pytest.raises(UserError, match=f"^reward_functions: mine.py:score .*{words}"):
        _call(lambda *_: returned)


def test_an_exception_is_named_with_the_row_and_the_line(tmp_path):
    source = "def score(prompts, completions, rows):\n    return [1 / (2 - row['k']) for row in rows]\n"
    path = _file(tmp_path, source)
    function, _ = load_function(path, "score")
    with pytest.raises(UserError) as error:
        _call(function, f"{path}:score")
    text = str(error.value)
    assert text.startswith(
        f"reward_functions: {path}:score fails on 3 answers, the first to d.jsonl:1 (3 tries)"
    )
    assert text.endswith("ZeroDivisionError: division by zero (line 2)")


def test_a_call_that_fails_is_made_again_with_all_answers():
    calls = []

    def score(prompts, completions, rows):
        calls.append(len(completions))
        if len(calls) < 3:
            raise TimeoutError("no answer")
        return [1.0] * len(completions)

    assert _call(score).tolist() == [1.0] * 3 and calls == [3, 3, 3]


def test_none_is_no_reward():
    assert _call(lambda *_: [None, 2, 3]).tolist() == [0.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("def scores(p, c, r): ...", "score", "no function 'score'. It has: scores. Did you mean 'scores'?"),
        ("x = 1", "score", "no function 'score'. It has none."),
        ("score = 3", "score", "'score' as a int"),
        (
            "def score(p, c): ...",
            "score",
            r"found score\(p, c\), expected function\(prompts, completions, rows\)",
        ),
        ("def score(p, c, r, extra): ...", "score", "extra"),
        ("def score(:", "score", "SyntaxError"),
        ("import no_such_module_here", "score", "ModuleNotFoundError.*line 1"),
        ("a = 1\nraise ValueError('why')", "score", r"ValueError: why \(line 2\)"),
        ("raise SystemExit(3)", "score", "SystemExit: 3"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, source, name, words):
    with pytest.raises(UserError, match=words) as error:
        load_function(_file(tmp_path, source), name)
    assert str(error.value).startswith("reward_functions: ")


def test_a_missing_file_and_the_nearest_name(tmp_path):
    _file(tmp_path, "", "reward.py")
    with pytest.raises(UserError, match=r"there is no file .*rewards\.py'\. Did you mean 'reward\.py'\?"):
        load_function(str(tmp_path / "rewards.py"), "score")


def test_files_of_the_same_name_are_two(tmp_path):
    for folder, number in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        _file(tmp_path / folder, f"def score(p, c, r): return [{number}] * len(c)")
    one, first = load_function(str(tmp_path / "one" / "mine.py"), "score")
    two, second = load_function(str(tmp_path / "two" / "mine.py"), "score")
    assert (one([], TEXTS, []), two([], TEXTS, [])) == ([1, 1, 1], [2, 2, 2])
    assert first != second


def test_a_file_may_hold_dataclasses(tmp_path):
    source = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    source += "@dataclass\nclass A:\n    x: int\ndef score(p, c, r): return [A(1).x for _ in c]\n"
    function, _ = load_function(_file(tmp_path, source), "score")
    assert function([], TEXTS, []) == [1, 1, 1]


def test_a_neighbour_of_the_file_can_be_imported(tmp_path):
    _file(tmp_path, "W = 2\n", "a_neighbour_of_rewards.py")
    source = (
        "from a_neighbour_of_rewards import W\ndef score(prompts, completions, rows):\n    return [W] * 3\n"
    )
    function, _ = load_function(_file(tmp_path, source), "score")
    assert _call(function).tolist() == [2.0] * 3
