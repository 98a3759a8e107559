"""Write the preference sets (pairs_*.jsonl, rankings_*.jsonl, unpaired_*.jsonl) into this folder.

    python data/make_preferences.py [--output FOLDER]

Each prompt is a short record and a question about it. A good answer says in its first sentence what the
record says, may add more of the record, stays polite, makes nothing up, keeps to a form that the prompt asks
for, and ends with a fixed offer. A bad answer has one or more faults, each against one of these rules; the
faults are named in the row. In every second row the better answer of a pair, or of most pairs of a ranking,
is the longer one, so length says little. The unpaired sets hold the same judgements as the pairs, an answer a
row. The words are in preference_words.py; every run writes the same
bytes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from make_data import output_folder, write_jsonl
from preference_words import (
    DESKS,
    EVASIONS,
    INVENTED,
    OFFER,
    OTHER_ENDINGS,
    PREAMBLES,
    RUDE,
    UNKNOWN,
    Desk,
    Field,
)

SEED = 20260402
PAIRS = {"en": 400, "heldout": 120}
RANKINGS = {"en": 150, "heldout": 40}

# How often a pair shows each fault.
FAULTS = (
    ("style",) * 7 + ("wrong",) * 4 + ("evasive",) * 2 + ("rude",) * 3 + ("invented",) * 2 + ("form",) * 2
)
# The number of faults of each of four answers.
RANKING_FAULTS = ((0, 1, 2, 3), (0, 0, 1, 2), (0, 1, 1, 2))
FORMS: dict[str, tuple[str, Callable[[str], str]]] = {
    "capitals": ("Write the answer itself in capital letters.", str.upper),
    "quotes": ("Put the answer itself in quotation marks.", '"{}"'.format),
}


@dataclass(frozen=True)
class Question:
    """A record of ``desk`` with what it says (``values``), and what is asked.

    ``field``: the field that is asked for, or None where ``guess`` is what somebody would make up. ``form``:
    a key of FORMS, or empty. ``turns``: what was said before the closing turn of the user.
    """

    desk: Desk
    ref: str
    values: dict[str, str]
    field: str | None
    guess: str
    form: str
    turns: tuple[dict[str, str], ...]

    def answer(self) -> str:
        """The good first sentence."""
        if self.field is None:
            return UNKNOWN.format(ref=self.ref)
        return self.says(self.field, self.values[self.field], formed=True)

    def says(self, name: str, value: str, *, formed: bool = False) -> str:
        """The sentence that gives ``value`` for a field, ``formed`` as the prompt asks for."""
        if formed and self.form:
            value = FORMS[self.form][1](value)
        return self.desk.fields[name].says.format(value=value)


class Maker:
    """Draws questions and answers from a seeded generator; ``heldout`` chooses the words and frames."""

    def __init__(self, seed: str, *, heldout: bool) -> None:
        self.random = random.Random(seed)
        self.heldout = heldout

    def pick(self, choices: Sequence[Any]) -> Any:
        """One of ``choices``. Only random() is promised to stay the same in every Python version."""
        return choices[int(self.random.random() * len(choices))]

    def some(self, choices: Sequence[Any], count: int) -> list[Any]:
        """``count`` different ones of ``choices``, in random order."""
        left = list(choices)
        return [left.pop(int(self.random.random() * len(left))) for _ in range(count)]

    def frame(self, frames: Sequence[Any]) -> Any:
        """One of the frames; the last is for held-out rows alone."""
        return frames[-1] if self.heldout else self.pick(frames[:-1])

    def phrases(self, bank: Sequence[str]) -> Sequence[str]:
        """The phrases of a bad answer; the last two are for held-out rows, which show all of them."""
        return bank if self.heldout else bank[:-2]

    def value(self, field: Field, *, new: bool) -> str:
        """What a record says for a field; with ``new`` a value of held-out rows, where there are any."""
        return self.pick(field.heldout if new and field.heldout else field.values)

    def question(self, number: int, fault: str) -> Question:
        """A question about a new record, to which an answer may have this fault."""
        desk = DESKS[number % len(DESKS)]
        ref = f"{desk.name} {1000 + int(self.random.random() * 4500) * 2 + self.heldout}"
        new = self.heldout and bool(number // len(DESKS) % 2)
        values = {name: self.value(field, new=new) for name, field in desk.fields.items()}
        record = self.frame(desk.records).format(ref=ref, **values)
        record = record[0].upper() + record[1:]
        # A question that the record leaves open has no value to get wrong and no form to give it.
        open_question = fault in ("invented", "rude") and self.random.random() < 0.5
        field = None if open_question else self.pick(list(desk.fields))
        form = ""
        if fault == "form":
            form = "capitals" if any(map(str.isalpha, values[str(field)])) else "quotes"
        asked, guess = self.frame(desk.unknown) if field is None else ("", "")
        asked = asked if field is None else self.frame(desk.fields[field].questions)
        asked = f"{asked} {FORMS[form][0]}" if form else asked
        question = Question(desk, ref, values, field, guess, form, (user(f"{record} {asked}"),))
        return self.after_another(question, record, asked) if self.random.random() < 0.12 else question

    def after_another(self, question: Question, record: str, asked: str) -> Question:
        """The same question as the second one of a conversation."""
        other = self.pick([name for name in question.desk.fields if name != question.field])
        first = self.frame(question.desk.fields[other].questions)
        said = f"{question.says(other, question.values[other])} {OFFER.format(ref=question.ref)}"
        turns = (user(f"{record} {first}"), {"role": "assistant", "content": said}, user(asked))
        return replace(question, turns=turns)

    def reply(self, question: Question, faults: Sequence[str]) -> str:
        """An answer with these faults, and up to three true details."""
        sentences = [self.first_sentence(question, faults)]
        others = [name for name in question.values if name != question.field]
        for name in self.some(others, int(self.random.random() * 4)):
            sentences.append(question.says(name, question.values[name]))
        if "invented" in faults and question.field is not None:
            sentences.append(self.pick(self.phrases(INVENTED)))
        if "rude" in faults:
            sentences.insert(self.pick((0, 1, len(sentences))), self.pick(self.phrases(RUDE)))
        ending = OFFER.format(ref=question.ref)
        if "style" in faults:
            sentences = self.some(self.phrases(PREAMBLES), self.pick((1, 1, 2))) + sentences
            ending = self.pick(self.phrases(OTHER_ENDINGS))
        return " ".join([*sentences, ending]).strip()

    def first_sentence(self, question: Question, faults: Sequence[str]) -> str:
        """The sentence that should answer the question."""
        if question.field is None:
            return question.guess if "invented" in faults else question.answer()
        if "evasive" in faults:
            return str(self.pick(self.phrases(EVASIONS)))
        value = question.values[question.field]
        if "wrong" in faults:
            field = question.desk.fields[question.field]
            said = set(question.values.values())
            value = self.pick([other for other in (*field.values, *field.heldout) if other not in said])
        return question.says(question.field, value, formed="form" not in faults)


def user(content: str) -> dict[str, str]:
    """A turn of the user."""
    return {"role": "user", "content": content}


def in_house_style(answer: str) -> bool:
    """Whether an answer ends with the offer and begins with none of the empty phrases."""
    offer = re.escape(OFFER).replace(re.escape("{ref}"), r"\w+ \d+")
    return re.search(rf"(^|\s){offer}$", answer) is not None and not answer.startswith(PREAMBLES)


def make_pairs(key: str) -> list[dict[str, Any]]:
    """Rows with ``prompt``, ``chosen`` and ``rejected`` as turns, and the ``fault`` of the worse answer."""
    maker = Maker(f"{SEED}-pairs-{key}", heldout=key == "heldout")
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    while len(rows) < PAIRS[key]:
        fault = maker.pick(FAULTS)
        question = maker.question(len(rows), fault)
        if question.ref in seen:
            continue
        better_is_longer = len(rows) % 2 == 0
        for _ in range(40):
            good, bad = maker.reply(question, ()), maker.reply(question, (fault,))
            if len(good) != len(bad) and (len(good) > len(bad)) == better_is_longer:
                seen.add(question.ref)
                rows.append(
                    {
                        "prompt": list(question.turns),
                        "chosen": [{"role": "assistant", "content": good}],
                        "rejected": [{"role": "assistant", "content": bad}],
                        "fault": fault,
                    }
                )
                break
    return rows


def longer_share(answers: Sequence[str], scores: Sequence[int]) -> float:
    """The share of pairs that do not tie in which the better answer is the longer one."""
    longer = [
        len(one) > len(other)
        for one, high in zip(answers, scores, strict=True)
        for other, low in zip(answers, scores, strict=True)
        if high > low
    ]
    return sum(longer) / len(longer)


def make_rankings(key: str) -> list[dict[str, Any]]:
    """Rows with ``prompt`` (turns), four ``answers``, their ``scores`` and the ``faults`` of each."""
    maker = Maker(f"{SEED}-rankings-{key}", heldout=key == "heldout")
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    while len(rows) < RANKINGS[key]:
        question = maker.question(len(rows), "")
        if question.ref in seen:
            continue
        # Evasive and wrong exclude each other; an answer has at most one of them.
        counts = maker.some(maker.pick(RANKING_FAULTS), 4)
        faults = [
            maker.some(("style", "rude", "invented", maker.pick(("wrong", "evasive"))), n) for n in counts
        ]
        scores = [3 - len(names) for names in faults]
        for _ in range(200):
            answers = [maker.reply(question, names) for names in faults]
            share = longer_share(answers, scores)
            if len(set(answers)) == len(answers) and share != 0.5 and (share > 0.5) == (len(rows) % 2 == 0):
                break
        else:
            continue
        seen.add(question.ref)
        rows.append(
            {
                "prompt": list(question.turns),
                "answers": answers,
                "scores": scores,
                "faults": [sorted(names) for names in faults],
            }
        )
    return rows


def make_unpaired(key: str) -> list[dict[str, Any]]:
    """The answers of the pairs one by one: rows with ``prompt``, ``completion`` (turns) and ``label``.

    Whether an answer has a ``fault`` is all that they keep of the judgement; their order hides what belonged
    together.
    """
    rows: list[dict[str, Any]] = []
    for pair in make_pairs(key):
        for column, label in (("chosen", True), ("rejected", False)):
            row = {"prompt": pair["prompt"], "completion": pair[column], "label": label}
            rows.append(row if label else row | {"fault": pair["fault"]})
    return Maker(f"{SEED}-unpaired-{key}", heldout=False).some(rows, len(rows))


def main(argv: list[str] | None = None) -> int:
    """Write the six files and print their sizes."""
    folder = output_folder(argv, "Write the preference sets.")
    for name, make in (("pairs", make_pairs), ("rankings", make_rankings), ("unpaired", make_unpaired)):
        for key in ("en", "heldout"):
            rows = make(key)
            write_jsonl(folder / f"{name}_{key}.jsonl", rows)
            print(f"{name}_{key}.jsonl: {len(rows)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
