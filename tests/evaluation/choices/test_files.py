"""Files of multiple-choice benchmarks: what is read, and the place of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_align.errors import UserError
from hf_align.evaluation.choices.files import Subject, read_task
from hf_align.evaluation.recipe_entries import ChoiceTask

ROOT = Path(__file__).resolve().parents[3]
MMLU = 'Which is hot?,ice,"fire, of course",snow,rain,B\n"Two\nlines?",a,b,c,d,D\n'
CEVAL = "id,question,A,B,C,D,answer,explanation\n0,首都？,罗马,北京,开罗,利马,B,因为\n"


def read(path: Path, *, needs_shots: bool = False, **options) -> list[Subject]:
    return read_task(ChoiceTask(str(path), **options), needs_shots=needs_shots)


@pytest.fixture
def mmlu(tmp_path) -> Path:
    for part, content in (("test", MMLU * 2), ("dev", MMLU)):
        (tmp_path / part).mkdir()
        for subject in ("heat", "abstract_algebra"):
            (tmp_path / part / f"{subject}_{part}.csv").write_text(content)
    return tmp_path


def test_mmlu(mmlu):
    algebra, heat = read(mmlu / "test", dev_path=str(mmlu / "dev"), needs_shots=True, max_rows=3)
    assert (algebra.name, heat.name, heat.format) == ("abstract_algebra", "heat", "mmlu")
    assert len(heat.questions) == 3 and heat.shots is not None and len(heat.shots) == 2
    first, second, _ = heat.questions
    assert first.choices == ("ice", "fire, of course", "snow", "rain") and first.scores == (0, 1, 0, 0)
    assert first.source.endswith("heat_test.csv:1") and second.source.endswith("heat_test.csv:2")
    assert second.text == "Two\nlines?" and second.answer == 3
    assert read(mmlu / "test" / "heat_test.csv")[0].shots == ()


def test_ceval(tmp_path):
    (tmp_path / "geo_val.csv").write_text(CEVAL)
    (tmp_path / "geo_dev.csv").write_text(CEVAL)
    (subject,) = read(tmp_path / "geo_val.csv", dev_path=str(tmp_path), needs_shots=True)
    assert (subject.name, subject.format) == ("geo", "ceval")
    assert (
        subject.questions[0].choices == ("罗马", "北京", "开罗", "利马") and subject.questions[0].answer == 1
    )
    assert subject.shots is not None and "geo_dev" in subject.shots[0].source
    (tmp_path / "geo_test.csv").write_text("id,question,A,B,C,D\n0,首都？,罗马,北京,开罗,利马\n")
    with pytest.raises(UserError, match=r"geo_test\.csv:2: there is no answer; C-Eval publishes none"):
        read(tmp_path / "geo_test.csv")


def test_bigbench(tmp_path):
    task = {
        "examples": [{"input": "Hot or cold?", "target_scores": {"hot": 0.25, "cold": 1}}],
        "task_prefix": "Say it.",
        "append_choices_to_input": False,
    }
    path = tmp_path / "temperature" / "task.json"
    path.parent.mkdir()
    path.write_text(json.dumps(task))
    (path.parent / "results.json").write_text("{}")
    (subject,) = read(tmp_path, needs_shots=True)
    assert (subject.name, subject.format, subject.shots) == ("temperature", "bigbench", None)
    assert subject.questions[0].choices == ("hot", "cold") and subject.questions[0].scores == (0.25, 1.0)
    assert subject.frame.task_prefix == "Say it." and not subject.frame.append_choices_to_input
    assert subject.frame.example_output_prefix == "\nA: "


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("q,a,b\n", r"t\.csv:1: found 3 fields, expected a question, its choices"),
        ("q,a,b,C\n", r"t\.csv:1: found the answer 'C', expected one of the letters A, B"),
        (MMLU + "q,a,b,c,d,AB\n", r"t\.csv:4: found the answer 'AB'"),
        ('q,a,b,"c\n', r"t\.csv:1: not valid CSV"),
        ("", "the file has no questions"),
        (
            "id,question,answer\n1,q,A\n",
            "found the columns id, question, answer; expected id, question, A, B",
        ),
    ],
)
def test_wrong_tables_are_named(tmp_path, content, words):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        read(path)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("[", "cannot be read as JSON"),
        ("{}", "expected a BIG-bench task: an object with a list of 'examples'"),
        (
            '{"examples": [{"input": "x", "target": "y"}]}',
            "example 1: expected 'target_scores' .* generation",
        ),
        (
            '{"examples": [{"input": "x", "target_scores": {"a": 1, "b": "z"}}]}',
            "a finite number for each choice",
        ),
        ('{"examples": [{"input": "x", "target_scores": {"a": NaN, "b": 0}}]}', "a finite number for each"),
        ('{"examples": [{"input": "x", "target_scores": {"a": 1e999, "b": 0}}]}', "a finite number for each"),
        (
            f'{{"examples": [{{"input": "x", "target_scores": {{"a": {10**400}, "b": 0}}}}]}}',
            "a finite number",
        ),
        (
            '{"examples": [{"input": "\\ud800", "target_scores": {"a": 1, "b": 0}}]}',
            "example 1: input: lone surrogate",
        ),
        ("[" * 100_000, "nested too deeply"),
        (
            '{"examples": [{"input": "x", "target_scores": {"a": 1, "b": 0}}], "choice_prefix": 3}',
            "choice_prefix: found a number, expected a string",
        ),
    ],
)
def test_wrong_tasks_are_named(tmp_path, task, words):
    path = tmp_path / "t.json"
    path.write_text(task)
    with pytest.raises(UserError, match=words):
        read(path)


def test_missing_files_and_examples_are_named(mmlu, tmp_path):
    with pytest.raises(UserError, match="there is no such file or folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"the folder has no \.csv or \.json file"):
        read(tmp_path / "empty")
    with pytest.raises(UserError, match=r"num_fewshot needs solved examples; .* dev_path"):
        read(mmlu / "test", needs_shots=True)
    (mmlu / "dev" / "heat_dev.csv").unlink()
    with pytest.raises(UserError, match="has no file for the subject 'heat'"):
        read(mmlu / "test", dev_path=str(mmlu / "dev"))


def test_the_questions_are_no_examples_of_themselves(mmlu):
    path = mmlu / "test" / "heat_test.csv"
    with pytest.raises(UserError, match="whose answers would stand in their own prompts"):
        read(path, dev_path=str(mmlu / "dev" / ".." / "test" / "heat_test.csv"), needs_shots=True)


def test_hidden_folders_are_left_out(mmlu):
    copies = mmlu / "test" / ".ipynb_checkpoints"
    copies.mkdir()
    (copies / "heat_test-checkpoint.csv").write_text(MMLU)
    assert [task.name for task in read(mmlu / "test")] == [task.name for task in read(mmlu / "test")]
    assert not any("checkpoint" in task.name for task in read(mmlu / "test"))


def test_long_questions(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('"' + "x" * 200_000 + '",a,b,A\n')
    (task,) = read(path)
    assert len(task.questions[0].text) == 200_000


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ('{"id": 1, "question": "q", "A": 1, "B": 2.5, "answer": "B"}', ("1", "2.5")),
        ('{"id": 1, "question": "q", "A": "x", "B": ["y"], "answer": "B"}', r"jsonl:1: B: expected a string"),
        ('{"id": 1, "question": "q", "A": "x", "B": "y", "answer": 2}', "found the answer '2', expected"),
    ],
)
def test_ceval_in_other_files_than_csv(tmp_path, row, found):
    path = tmp_path / "t.jsonl"
    path.write_text(row)
    if isinstance(found, tuple):
        assert read(path, format="ceval")[0].questions[0].choices == found
    else:
        with pytest.raises(UserError, match=found):
            read(path, format="ceval")


def test_the_project_s_own_tasks():
    tasks = read(ROOT / "data/evaluation/mmlu/test", dev_path=str(ROOT / "data/evaluation/mmlu/dev"))
    assert [(task.name, len(task.questions), len(task.shots or ())) for task in tasks] == [
        ("dates", 24, 5),
        ("numbers", 24, 5),
        ("words", 24, 5),
    ]
    for task in tasks:
        for each in task.questions:
            assert len(set(each.choices)) == 4 and sum(each.scores) == 1, each
        shown = {(each.text, frozenset(each.choices)) for each in task.shots or ()}
        assert not shown & {(each.text, frozenset(each.choices)) for each in task.questions}
        letters = [each.answer for each in task.questions]
        assert all(letters.count(letter) == 6 for letter in range(4))
    (endings,) = read(ROOT / "data/evaluation/endings")
    assert len(endings.questions) == 48
