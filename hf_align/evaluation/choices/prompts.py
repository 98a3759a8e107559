"""A multiple-choice question as a prompt with its possible continuations, in the words of its benchmark.

MMLU and C-Eval list the choices with letters and score the letters; BIG-bench scores the choices themselves.
Which solved examples go before a question is decided here as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_align.evaluation.choices.files import LETTERS, Question, Subject
from hf_align.types import Comparison


def shots_of(subject: Subject, number: int, count: int) -> list[Question]:
    """The solved examples before question ``number`` (from 0): the first ``count`` there are, never
    itself."""
    if subject.shots is not None:
        return list(subject.shots[:count])
    others = subject.questions[:number] + subject.questions[number + 1 :]
    return list(others[:count])


def comparison(subject: Subject, question: Question, shots: Sequence[Question]) -> Comparison:
    """The prompt and its K continuations, as plain text."""
    build = {"mmlu": _mmlu, "ceval": _ceval, "bigbench": _bigbench}[subject.format]
    prompt, answers = build(subject, question, shots)
    # The engine needs scores only to tell better from worse, which is not asked here.
    return Comparison(question.source, prompt, answers, (0.0,) * len(answers))


def _mmlu(subject: Subject, question: Question, shots: Sequence[Question]) -> tuple[str, tuple[str, ...]]:
    topic = " ".join(subject.name.replace("_", " ").split())
    head = f"The following are multiple choice questions (with answers) about {topic}.\n\n"
    solved = "".join(f"{_listed(shot)}\nAnswer: {LETTERS[shot.answer]}\n\n" for shot in shots)
    answers = tuple(f" {LETTERS[i]}" for i in range(len(question.choices)))
    return f"{head}{solved}{_listed(question)}\nAnswer:", answers


def _ceval(subject: Subject, question: Question, shots: Sequence[Question]) -> tuple[str, tuple[str, ...]]:
    topic = " ".join(subject.name.replace("_", " ").split())
    head = f"以下是中国关于{topic}考试的单项选择题，请选出其中的正确答案。\n\n"
    solved = "".join(f"{_listed(shot)}\n答案：{LETTERS[shot.answer]}\n\n" for shot in shots)
    return f"{head}{solved}{_listed(question)}\n答案：", tuple(LETTERS[: len(question.choices)])


def _listed(question: Question) -> str:
    lines = [f"{LETTERS[i]}. {choice}" for i, choice in enumerate(question.choices)]
    return "\n".join([question.text, *lines])


def _bigbench(subject: Subject, question: Question, shots: Sequence[Question]) -> tuple[str, tuple[str, ...]]:
    frame = subject.frame

    def asked(each: Question) -> str:
        listed = "".join(f"{frame.choice_prefix}{choice}" for choice in each.choices)
        body = each.text + (listed if frame.append_choices_to_input else "")
        return f"{frame.example_input_prefix}{body}{frame.example_output_prefix}"

    solved = "".join(
        f"{asked(shot)}{shot.choices[shot.answer]}{frame.few_shot_example_separator}" for shot in shots
    )
    return f"{frame.task_prefix}{solved}{asked(question)}", question.choices
