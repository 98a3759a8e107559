"""Subjects of multiple choice in the three forms, with questions of different lengths."""

from __future__ import annotations

from hf_align.evaluation.choices.files import Frame, Question, Subject


def question(number: int, choices: tuple[str, ...] = ("Oslo", "Rome", "Lima", "Cairo")) -> Question:
    scores = tuple(float(i == number % len(choices)) for i in range(len(choices)))
    return Question(f"q:{number}", f"Where do {number} lamps go?", choices, scores)


QUESTIONS = tuple(question(i) for i in range(5))

SHOTS = tuple(question(i) for i in range(7, 10))

MMLU = Subject("world_cities", "mmlu", QUESTIONS, SHOTS)

CEVAL = Subject("城市", "ceval", QUESTIONS, SHOTS)

WORDS = (("a lamp", "twelve lamps"), ("Oslo", "你好", "the order as JSON"), ("user", "JSON", "city"))

BIGBENCH = Subject("cities", "bigbench", tuple(map(question, range(3), WORDS)), None, Frame("Say where."))
