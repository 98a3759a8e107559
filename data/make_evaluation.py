"""Write small multiple-choice tasks (evaluation/) beside this file, in the forms of well-known benchmarks.

    python data/make_evaluation.py [--output FOLDER]

Three subjects in the form of MMLU (CSV without a header, test and dev files) and one task in the form of
BIG-bench (JSON with target_scores). Every word is in this file and the seed is fixed, so every run writes the
same bytes. The right letter is spread evenly over A to D.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from make_data import output_folder

SEED = 20261122
TEST_QUESTIONS, DEV_QUESTIONS = 24, 5

OPPOSITES = [
    tuple(pair.split("/"))
    for pair in (
        "hot/cold big/small early/late full/empty heavy/light dark/bright open/closed soft/hard wet/dry "
        "rich/poor young/old loud/quiet deep/shallow fast/slow clean/dirty strong/weak cheap/expensive "
        "thick/thin wide/narrow sweet/bitter up/down left/right first/last"
    ).split()
]
GROUPS = {
    "fruit": "apple pear plum cherry grape lemon".split(),
    "tools": "hammer saw drill pliers wrench chisel".split(),
    "animals": "horse sheep rabbit goose otter camel".split(),
    "furniture": "table chair shelf wardrobe bench desk".split(),
    "clothes": "coat scarf shirt glove sock hat".split(),
}
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

# (sentence up to its last word, the word, words that make no sense there)
ENDINGS = [
    ("To read in the evening she switched on the", "lamp", "river spoon cloud"),
    ("He locked the door and put the key into his", "pocket", "opinion thunder soup"),
    ("The cook stirred the soup with a wooden", "spoon", "window letter garden"),
    ("It began to rain, so they opened their", "umbrella", "calendar sandwich piano"),
    ("The baby was tired and slept all", "night", "carpet sugar number"),
    ("The train to Oslo leaves from platform", "seven", "butter gently forest"),
    ("She wrote the address on the front of the", "envelope", "ocean breeze whistle"),
    ("The dog wagged its", "tail", "ladder recipe engine"),
    ("After the long walk his feet were", "sore", "printed square wooden"),
    ("The gardener watered the", "plants", "invoices meetings stairs"),
    ("Please send twelve lamps to our shop by the end of", "May", "glass wool loud"),
    ("The bridge crosses the", "river", "kettle answer pencil"),
    ("In winter the lake is covered with", "ice", "ink bread leather"),
    ("He paid for the tickets and kept the", "receipt", "sunset gravity laughter"),
    ("The bird built its nest in a", "tree", "bottle sentence battery"),
    ("She cut the bread with a sharp", "knife", "blanket rumour shadow"),
    ("The teacher wrote the sum on the", "board", "soup wind onion"),
    ("The ship left the harbour and sailed out to", "sea", "desk rice chair"),
    ("The clock on the wall shows the wrong", "time", "taste smell weight"),
    ("They were thirsty and drank a glass of", "water", "gravel paper cotton"),
    ("The farmer keeps his cows in the", "barn", "violin novel teapot"),
    ("She was cold and put on a warm", "coat", "ruler question candle"),
    ("The post office is closed on", "Sunday", "butter yellow gravel"),
    ("He plays the piano with both", "hands", "clouds lamps coins"),
]


class Question(NamedTuple):
    text: str
    right: str
    wrong: tuple[str, str, str]


def opposites(rng: random.Random) -> list[Question]:
    """One question for each word of a pair, the wrong answers from other pairs."""
    found = []
    for first, second in OPPOSITES:
        asked, right = rng.sample([first, second], 2)
        others = [word for pair in OPPOSITES if asked not in pair for word in pair]
        found.append(Question(f"Which word means the opposite of '{asked}'?", right, _three(rng, others)))
    for name, words in GROUPS.items():
        for word in words[:2]:
            others = [other for group, them in GROUPS.items() if group != name for other in them]
            wrong = tuple(rng.sample([w for w in words if w != word], 2))
            odd = rng.choice(others)
            question = f"Which of these words does not belong with the others ({name})?"
            found.append(Question(question, odd, (word, *wrong)))
    return found


def numbers(rng: random.Random) -> list[Question]:
    """Sums, differences and comparisons of small numbers."""
    found = []
    for _ in range(12):
        a, b = rng.randint(11, 48), rng.randint(3, 9)
        wrong = rng.sample([a + b + d for d in (-3, -2, -1, 1, 2, 3, 10)], 3)
        text = f"A box holds {a} lamps and {b} more are put in. How many lamps are in it?"
        found.append(Question(text, str(a + b), (str(wrong[0]), str(wrong[1]), str(wrong[2]))))
    for _ in range(10):
        a, b = rng.randint(21, 60), rng.randint(3, 19)
        wrong = rng.sample([a - b + d for d in (-3, -2, -1, 1, 2, 3, 10)], 3)
        text = f"A shop has {a} chairs and sells {b} of them. How many chairs are left?"
        found.append(Question(text, str(a - b), (str(wrong[0]), str(wrong[1]), str(wrong[2]))))
    for _ in range(10):
        values = sorted(rng.sample(range(100, 1000), 4))
        text = "Which of these numbers is the largest?"
        found.append(Question(text, str(values[3]), (str(values[0]), str(values[1]), str(values[2]))))
    return found


def dates(rng: random.Random) -> list[Question]:
    """What comes after a month or a day, and how months are numbered."""
    found = []
    for number, month in enumerate(MONTHS):
        after = MONTHS[(number + 1) % 12]
        others = [each for each in MONTHS if each not in (month, after)]
        found.append(Question(f"Which month comes after {month}?", after, _three(rng, others)))
    for number, day in enumerate(DAYS):
        after = DAYS[(number + 1) % 7]
        others = [each for each in DAYS if each not in (day, after)]
        found.append(Question(f"Today is {day}. Which day is tomorrow?", after, _three(rng, others)))
    for number, month in enumerate(MONTHS, start=1):
        others = [f"{each:02d}" for each in range(1, 13) if each != number]
        found.append(
            Question(f"Which number does {month} have in a date?", f"{number:02d}", _three(rng, others))
        )
    return found


SUBJECTS: dict[str, Callable[[random.Random], list[Question]]] = {
    "words": opposites,
    "numbers": numbers,
    "dates": dates,
}


def mmlu_files() -> dict[str, str]:
    """File name to content of every CSV."""
    files = {}
    for subject, make in SUBJECTS.items():
        rng = random.Random(f"{SEED} {subject}")
        questions = list(dict.fromkeys(make(rng)))
        rng.shuffle(questions)
        parts = {
            "dev": questions[:DEV_QUESTIONS],
            "test": questions[DEV_QUESTIONS : DEV_QUESTIONS + TEST_QUESTIONS],
        }
        for part, chosen in parts.items():
            files[f"mmlu/{part}/{subject}_{part}.csv"] = _csv(rng, chosen)
    return files


def _csv(rng: random.Random, questions: Sequence[Question]) -> str:
    letters = [i % 4 for i in range(len(questions))]
    rng.shuffle(letters)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for question, place in zip(questions, letters, strict=True):
        choices = list(question.wrong)
        rng.shuffle(choices)
        choices.insert(place, question.right)
        writer.writerow([question.text, *choices, "ABCD"[place]])
    return text.getvalue()


def bigbench_task() -> dict[str, object]:
    """What ends a sentence or answers a question: the choices themselves are scored."""
    rng = random.Random(f"{SEED} endings")
    asked = [Question(text, right, _split(wrong)) for text, right, wrong in ENDINGS]
    for make in (dates, numbers):
        chosen = rng.sample([each for each in make(rng) if "in a date" not in each.text], 12)
        asked += [each._replace(text=f"Question: {each.text} Answer:") for each in chosen]
    examples = []
    for each in asked:
        choices = sorted([each.right, *each.wrong])
        scores = {choice: int(choice == each.right) for choice in choices}
        examples.append({"input": each.text, "target_scores": scores})
    return {
        "name": "endings",
        "description": "Choose the word that ends a sentence or answers a question about everyday things.",
        "keywords": ["common sense", "multiple choice"],
        "metrics": ["multiple_choice_grade"],
        "preferred_score": "multiple_choice_grade",
        "example_input_prefix": "",
        "example_output_prefix": " ",
        "append_choices_to_input": False,
        "examples": examples,
    }


def _split(words: str) -> tuple[str, str, str]:
    first, second, third = words.split()
    return first, second, third


def _three(rng: random.Random, words: Sequence[str]) -> tuple[str, str, str]:
    first, second, third = rng.sample(list(words), 3)
    return first, second, third


def main(argv: Sequence[str] | None = None) -> int:
    folder = output_folder(argv, (__doc__ or "").partition("\n")[0], "evaluation")
    task = json.dumps(bigbench_task(), ensure_ascii=False, indent=1) + "\n"
    for name, content in {**mmlu_files(), "endings/task.json": task}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
