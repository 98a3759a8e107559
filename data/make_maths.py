"""Write the word problems (maths_en.jsonl, maths_heldout.jsonl) beside this file.

    python data/make_maths.py [--output FOLDER]

Problems of one or two steps with small whole numbers, each with its solution in GSM8K's form: the steps, then
``####`` and the number. Every word is in this file and the seed is fixed, so every run writes the same bytes.
Held-out problems have other frames, other things and other names.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from make_data import output_folder, write_jsonl

SEED = 20261201
TRAIN_ROWS, HELDOUT_ROWS = 600, 150
INSTRUCTION = "Write the calculation on one line."

NAMES = (("Ada", "Ben", "Carla", "Dev", "Elif", "Femi"), ("Greta", "Hugo", "Ines", "Jun"))
THINGS = (
    ("apples", "books", "stamps", "shells", "pencils", "marbles", "tickets", "eggs"),
    ("candles", "buttons", "lemons", "postcards"),
)
HOLDERS = (("boxes", "bags", "shelves", "baskets"), ("crates", "drawers"))

Numbers = Callable[[int, int], int]
Solved = tuple[dict[str, int], str, int]
"""The numbers of a problem by the names of its frames, its steps, and the answer."""


def plus(draw: Numbers) -> Solved:
    a, b = draw(3, 20), draw(2, 20)
    return {"a": a, "b": b}, f"{a} + {b} = {a + b}", a + b


def minus(draw: Numbers) -> Solved:
    b = draw(2, 12)
    a = b + draw(2, 15)
    return {"a": a, "b": b}, f"{a} - {b} = {a - b}", a - b


def times(draw: Numbers) -> Solved:
    a, b = draw(2, 9), draw(2, 10)
    return {"a": a, "b": b}, f"{a} * {b} = {a * b}", a * b


def plus_minus(draw: Numbers) -> Solved:
    a, b = draw(4, 20), draw(2, 15)
    c = draw(2, a + b - 1)
    return {"a": a, "b": b, "c": c}, f"{a} + {b} = {a + b}. {a + b} - {c} = {a + b - c}", a + b - c


def times_plus(draw: Numbers) -> Solved:
    a, b, c = draw(2, 8), draw(2, 9), draw(2, 12)
    return {"a": a, "b": b, "c": c}, f"{a} * {b} = {a * b}. {a * b} + {c} = {a * b + c}", a * b + c


# Each kind of problem with its frames: those of training, and those that are held out.
PROBLEMS: tuple[tuple[Callable[[Numbers], Solved], tuple[str, ...], tuple[str, ...]], ...] = (
    (
        plus,
        (
            "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
            "There are {a} {things} on the table and {b} on the floor. How many {things} are there in all?",
        ),
        ("{name} finds {a} {things} in the morning and {b} in the evening. How many is that together?",),
    ),
    (
        minus,
        (
            "{name} has {a} {things} and gives away {b}. How many {things} are left?",
            "Of {a} {things}, {b} are broken. How many {things} are whole?",
        ),
        ("{name} packed {a} {things} and lost {b} of them on the way. How many arrived?",),
    ),
    (
        times,
        (
            "There are {a} {holders} with {b} {things} each. How many {things} are there?",
            "{name} buys {b} {things} on each of {a} days. How many {things} does {name} buy?",
        ),
        ("{name} fills {a} {holders}, and each takes {b} {things}. How many {things} does that need?",),
    ),
    (
        plus_minus,
        ("{name} has {a} {things}, gets {b} more and then sells {c}. How many {things} are left?",),
        ("A shop has {a} {things}. {b} more are delivered, and {c} are sold. How many are in the shop?",),
    ),
    (
        times_plus,
        ("{name} has {a} {holders} with {b} {things} each, and {c} loose ones. How many {things} is that?",),
        ("Each of {a} {holders} holds {b} {things}; {c} more lie beside them. How many {things} are there?",),
    ),
)


def rows(count: int, rng: random.Random, known: set[str], *, heldout: bool) -> list[dict[str, Any]]:
    """``count`` different problems, of every kind in turn, none of them in ``known``."""
    made: list[dict[str, Any]] = []
    while len(made) < count:
        solve, *frames = PROBLEMS[len(made) % len(PROBLEMS)]
        numbers, steps, answer = solve(rng.randint)
        words = {
            "name": rng.choice(NAMES[heldout]),
            "things": rng.choice(THINGS[heldout]),
            "holders": rng.choice(HOLDERS[heldout]),
        }
        question = f"{rng.choice(frames[heldout]).format(**numbers, **words)}\n{INSTRUCTION}"
        if question not in known:
            known.add(question)
            made.append(
                {
                    "messages": [{"role": "user", "content": question}],
                    "answer": f"{steps}\n#### {answer}",
                    "steps": steps.count("="),
                }
            )
    rng.shuffle(made)
    return made


def make() -> dict[str, list[dict[str, Any]]]:
    """The rows of both files, by file name."""
    rng, known = random.Random(SEED), set[str]()
    return {
        "maths_en.jsonl": rows(TRAIN_ROWS, rng, known, heldout=False),
        "maths_heldout.jsonl": rows(HELDOUT_ROWS, rng, known, heldout=True),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the two files and print their sizes."""
    folder = output_folder(argv, "Write the word problems.")
    for name, content in make().items():
        write_jsonl(folder / name, content)
        print(f"{name}: {len(content)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
