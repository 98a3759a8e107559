"""Multiple-choice questions from files in the forms of MMLU, C-Eval and BIG-bench.

MMLU (arXiv 2009.03300): CSV without a header line, ``question, A, B, …, answer``. C-Eval (arXiv 2305.08322):
CSV with the header ``id, question, A, B, C, D, answer`` and perhaps ``explanation``. BIG-bench (arXiv
2206.04615): a JSON task whose examples have ``target_scores``. How a question is put to a model is in
``prompts``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hf_align.config.data import DatasetConfig
from hf_align.data.conversion.turns import read_text
from hf_align.data.reading.raw import MalformedRow, kind_of
from hf_align.data.reading.sources import is_hidden, read_rows
from hf_align.errors import UserError
from hf_align.evaluation.recipe_entries import ChoiceTask

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SUFFIXES = {"mmlu": (".csv",), "ceval": (".csv",), "bigbench": (".json",)}
# Python's csv refuses fields over 128 KiB.
_LONGEST_FIELD = 2**31 - 1
_LARGEST_SCORE = 1e9
_SPLIT = re.compile(r"_(test|dev|val|train)$")


@dataclass(frozen=True)
class Question:
    """One question with K choices. ``scores`` (K,): what each choice is worth, the right one 1 and the others
    0 where the file says no more. ``source``: file and place in it."""

    source: str
    text: str
    choices: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def answer(self) -> int:
        """The number of the best choice, the first of them where several are."""
        return self.scores.index(max(self.scores))


@dataclass(frozen=True)
class Frame:
    """What a BIG-bench task says about its prompts; the defaults are those of its documentation."""

    task_prefix: str = ""
    example_input_prefix: str = "\nQ: "
    example_output_prefix: str = "\nA: "
    choice_prefix: str = "\n  choice: "
    few_shot_example_separator: str = "\n"
    append_choices_to_input: bool = True


@dataclass(frozen=True)
class Subject:
    """The questions of one file, and the solved ones that go before them in a prompt.

    ``format``: mmlu, ceval or bigbench. ``shots``: None where a question's shots are the other questions.
    """

    name: str
    format: str
    questions: tuple[Question, ...]
    shots: tuple[Question, ...] | None
    frame: Frame = Frame()


def read_task(task: ChoiceTask, *, needs_shots: bool) -> list[Subject]:
    """The subjects of a task in the order of their names.

    Raises UserError where a file is not of the expected form, where ``needs_shots`` and there are none, and
    where answers are missing, as in the test split of C-Eval.
    """
    return [_subject(task, path, needs_shots) for path in _files(Path(task.path), task.format)]


def _subject(task: ChoiceTask, path: Path, needs_shots: bool) -> Subject:
    form = _format(path, task.format)
    questions, frame = _read(path, form)
    shots: tuple[Question, ...] | None = None
    if task.dev_path is not None:
        dev = _dev_file(path, Path(task.dev_path), form)
        shots = _read(dev, form)[0]
    elif form != "bigbench":
        shots = ()
        if needs_shots:
            raise UserError(
                f"choice_tasks: {task.path}: num_fewshot needs solved examples; name the file or folder "
                "that holds "
                "them as dev_path"
            )
    return Subject(_subject_name(path, form), form, questions[: task.max_rows], shots, frame)


def _files(path: Path, form: str) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"choice_tasks: {path}: there is no such file or folder")
    suffixes = _SUFFIXES.get(form, (".csv", ".json"))
    files = sorted(each for each in path.rglob("*") if each.is_file() and each.suffix in suffixes)
    files = [each for each in files if not is_hidden(each.relative_to(path))]
    # A BIG-bench folder keeps results and other JSON beside its tasks.
    tasks = [each for each in files if each.name == "task.json"]
    if tasks:
        files = tasks
    if not files:
        raise UserError(f"choice_tasks: {path}: the folder has no {' or '.join(suffixes)} file")
    return files


def _format(path: Path, form: str) -> str:
    if form != "auto":
        return form
    if path.suffix == ".json":
        return "bigbench"
    csv.field_size_limit(_LONGEST_FIELD)
    with _opened(path, errors="replace") as file:
        first = next(csv.reader(file), [])
    return "ceval" if {"question", "answer"} <= set(first) or first[:2] == ["id", "question"] else "mmlu"


def _subject_name(path: Path, form: str) -> str:
    if form == "bigbench" and path.stem == "task":
        return path.parent.name
    return _SPLIT.sub("", path.stem)


def _dev_file(path: Path, dev: Path, form: str) -> Path:
    """The file of ``dev`` for the subject in ``path``: itself, or the one of the same subject in a folder."""
    if dev.is_file():
        if dev.resolve() == path.resolve():
            raise UserError(
                f"choice_tasks: dev_path: {dev} is the file of the questions themselves, whose answers would "
                "stand in their own prompts; name another, or leave dev_path out of a BIG-bench task"
            )
        return dev
    if not dev.is_dir():
        raise UserError(f"choice_tasks: dev_path: {dev}: there is no such file or folder")
    name = _subject_name(path, form)
    found = [each for each in _files(dev, form) if _subject_name(each, form) == name and each != path]
    marked = [each for each in found if each.stem.endswith("_dev")] or found
    if not marked:
        raise UserError(f"choice_tasks: dev_path: {dev} has no file for the subject '{name}' of {path}")
    return marked[0]


def _read(path: Path, form: str) -> tuple[tuple[Question, ...], Frame]:
    if form == "bigbench":
        return _read_bigbench(path)
    questions = tuple(_read_mmlu(path) if form == "mmlu" else _read_ceval(path))
    if not questions:
        raise UserError(f"{path}: the file has no questions")
    return questions, Frame()


def _read_mmlu(path: Path) -> Iterator[Question]:
    csv.field_size_limit(_LONGEST_FIELD)
    with _opened(path) as file:
        reader = csv.reader(file, strict=True)
        while True:
            place = f"{path}:{reader.line_num + 1}"
            try:
                fields = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(f"{place}: not valid CSV in UTF-8: {error}") from error
            if fields is None:
                return
            if not fields:
                continue
            if len(fields) < 4 or len(fields) > 2 + len(LETTERS):
                raise UserError(
                    f"{place}: found {len(fields)} fields, expected a question, its choices (two at least) "
                    "and the "
                    "letter of the right one"
                )
            yield _lettered(place, fields[0], fields[1:-1], fields[-1])


def _opened(path: Path, errors: str = "strict") -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", errors=errors, newline="")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_ceval(path: Path) -> Iterator[Question]:
    for row in read_rows(DatasetConfig(str(path))):
        if row.values is None:
            raise UserError(f"{row.place}: {row.problem}")
        values = row.values
        letters = [letter for letter in LETTERS if letter in values]
        if "question" not in values or len(letters) < 2:
            raise UserError(
                f"{row.place}: found the columns {', '.join(values)}; expected id, question, A, B, C, D, "
                "answer"
            )
        if not str(values.get("answer") or "").strip():
            raise UserError(
                f"{row.place}: there is no answer; C-Eval publishes none for its test split: use val, or dev"
            )
        named = {name: _words(row.place, name, values[name]) for name in ("question", *letters, "answer")}
        yield _lettered(row.place, named["question"], [named[x] for x in letters], named["answer"])


def _words(place: str, name: str, value: Any) -> str:
    """A text, or a number written out, as tables of other forms than CSV hold it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    try:
        return read_text(value, name)
    except MalformedRow as problem:
        raise UserError(f"{place}: {problem}") from None


def _lettered(place: str, text: str, choices: Sequence[str], answer: str) -> Question:
    letters = LETTERS[: len(choices)]
    letter = answer.strip().upper()
    if len(letter) != 1 or letter not in letters:
        raise UserError(
            f"{place}: found the answer {answer!r}, expected one of the letters {', '.join(letters)}"
        )
    scores = tuple(float(each == letter) for each in letters)
    return Question(place, text.strip(), tuple(choice.strip() for choice in choices), scores)


def _read_bigbench(path: Path) -> tuple[tuple[Question, ...], Frame]:
    try:
        task = json.loads(path.read_bytes())
    except RecursionError:
        raise UserError(f"{path}: this file cannot be read as JSON: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: this file cannot be read as JSON: {error}") from error
    examples = task.get("examples") if isinstance(task, dict) else None
    if not isinstance(examples, list) or not examples:
        raise UserError(f"{path}: expected a BIG-bench task: an object with a list of 'examples'")
    frame = Frame(**{key: task[key] for key in Frame.__dataclass_fields__ if key in task})
    for key in Frame.__dataclass_fields__:
        expected = type(getattr(Frame(), key))
        if not isinstance(getattr(frame, key), expected):
            raise UserError(
                f"{path}: {key}: found {kind_of(task[key])}, expected {kind_of(getattr(Frame(), key))}"
            )
    return tuple(_example(f"{path}:example {i}", each) for i, each in enumerate(examples, start=1)), frame


def _example(place: str, example: Any) -> Question:
    scores = example.get("target_scores") if isinstance(example, dict) else None
    if not isinstance(scores, dict) or len(scores) < 2:
        raise UserError(
            f"{place}: expected 'target_scores' with two choices at least; examples that are answered in "
            "free words are for generation_tasks"
        )
    if not all(map(_is_score, scores.values())) or not isinstance(example.get("input"), str):
        raise UserError(
            f"{place}: expected an 'input' in words and a finite number for each choice in 'target_scores'"
        )
    choices = tuple(_words(place, "target_scores", choice) for choice in scores)
    text = _words(place, "input", example["input"])
    return Question(place, text, choices, tuple(map(float, scores.values())))


def _is_score(value: Any) -> bool:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and abs(value) <= _LARGEST_SCORE
