"""Write the reviews (reviews_en.jsonl, reviews_heldout.jsonl) beside this file.

    python data/make_reviews.py [--output FOLDER]

Short reviews of things to buy, each praising or blaming on the whole, with one of two labels. Every word is
in this file and the seed is fixed, so every run writes the same bytes. The held-out file has other things,
other frames and, for half of its rows, other words; what makes a review hard is in data/README.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from make_data import output_folder, write_jsonl

SEED = 20261123
TRAIN_ROWS, HELDOUT_ROWS = 480, 160
INSTRUCTION = "Is this review positive or negative on the whole? Answer with one word."
LABELS = ("negative", "positive")


class Part(NamedTuple):
    """A part of a thing, and what is said of it. The last two of ``praise`` and ``blame`` are held out."""

    name: str
    praise: tuple[str, ...]
    blame: tuple[str, ...]


class Thing(NamedTuple):
    """What is reviewed, and the names of its parts."""

    name: str
    parts: tuple[str, ...]


PARTS = [
    Part(
        "battery",
        (
            "lasts two full days",
            "charges within an hour",
            "is still strong after a year",
            "outlives the week",
        ),
        ("dies before lunch", "takes all night to charge", "went flat within a month", "gives up at noon"),
    ),
    Part(
        "handle",
        ("sits well in the hand", "feels solid", "never gets hot", "fits small hands too"),
        ("came off on the second day", "wobbles", "gets too hot to touch", "cuts into the palm"),
    ),
    Part(
        "sound",
        ("is clear and warm", "fills the whole room", "stays clean when it is loud", "is a joy"),
        ("is thin and tinny", "crackles all the time", "breaks up when it is loud", "is like a tin can"),
    ),
    Part(
        "screen",
        ("is bright and sharp", "can be read in the sun", "has no reflections", "shows every detail"),
        ("is dim and blurred", "cannot be read in the sun", "flickers", "shows a line of dead dots"),
    ),
    Part(
        "fabric",
        ("is soft and thick", "keeps its colour in the wash", "breathes well", "feels like new every time"),
        ("scratches", "lost its colour in the first wash", "tears easily", "smells of glue"),
    ),
    Part(
        "seam",
        ("is straight and strong", "holds under any load", "lies flat", "is finished by hand"),
        ("opened within a week", "has loose threads everywhere", "rubs", "is crooked"),
    ),
    Part(
        "delivery",
        ("came a day early", "was quick and careful", "went without a hitch", "took two days"),
        ("took five weeks", "came with a crushed box", "went to the wrong town", "had to be asked for twice"),
    ),
    Part(
        "manual",
        ("explains every step", "is short and clear", "answered all my questions", "has good pictures"),
        ("leaves out half of the steps", "is a riddle", "is in no language I know", "shows another model"),
    ),
    Part(
        "service",
        (
            "answered within the hour",
            "sent a new one at once",
            "was patient with me",
            "paid me back the same day",
        ),
        ("never wrote back", "refused to help", "kept me waiting for a month", "passed me from desk to desk"),
    ),
    Part(
        "lid",
        ("closes tight", "opens with one hand", "has never leaked", "clicks shut"),
        ("leaks", "jams every time", "cracked on the first day", "does not fit"),
    ),
    Part(
        "motor",
        ("is quiet", "never gets tired", "starts at once", "is stronger than it looks"),
        ("howls like a siren", "smokes after a minute", "stops for no reason", "has no strength at all"),
    ),
    Part(
        "taste",
        ("is rich and fresh", "is just right", "reminds me of home", "stays for a while"),
        ("is bitter and stale", "is of cardboard", "spoiled my morning", "vanishes at once"),
    ),
]
TRAIN_THINGS = [
    Thing("headphones", ("battery", "sound", "delivery", "service", "manual")),
    Thing("kettle", ("handle", "lid", "delivery", "manual", "service")),
    Thing("rain jacket", ("fabric", "seam", "delivery", "service")),
    Thing("radio", ("sound", "battery", "manual", "delivery")),
    Thing("blender", ("motor", "lid", "handle", "manual", "service")),
    Thing("coffee", ("taste", "delivery", "service")),
    Thing("tablet", ("screen", "battery", "sound", "service", "manual")),
    Thing("backpack", ("fabric", "seam", "handle", "delivery")),
    Thing("drill", ("motor", "handle", "battery", "manual")),
    Thing("tea", ("taste", "delivery", "service")),
]
HELDOUT_THINGS = [
    Thing("loudspeaker", ("sound", "battery", "manual", "delivery")),
    Thing("pan", ("handle", "lid", "delivery", "service")),
    Thing("tent", ("fabric", "seam", "manual", "delivery")),
    Thing("camera", ("screen", "battery", "manual", "service")),
    Thing("vacuum cleaner", ("motor", "handle", "service", "manual")),
    Thing("chocolate", ("taste", "delivery", "service")),
]
# Opening and closing sentences: they may tell nothing, or the verdict in words of their own.
TRAIN_OPENINGS = [
    "I bought this {thing} in spring.",
    "My second {thing} from this shop.",
    "A present for my brother.",
    "I have used the {thing} every day for a month.",
    "We compared four before we ordered the {thing}.",
    "",
]
HELDOUT_OPENINGS = [
    "Ordered the {thing} after a friend had told me about it.",
    "This {thing} replaced one that was ten years old.",
    "Three weeks with the {thing} now.",
    "",
]
TRAIN_VERDICTS = {
    "positive": [
        "I would buy it again.",
        "Worth every cent.",
        "I cannot fault it.",
        "Not one regret.",
        "",
        "",
    ],
    "negative": [
        "I want my money back.",
        "Never again.",
        "I cannot recommend it.",
        "Not worth half of it.",
        "",
        "",
    ],
}
HELDOUT_VERDICTS = {
    "positive": ["My neighbour wants one as well.", "Nothing to complain about.", "", ""],
    "negative": ["It is going back tomorrow.", "Nothing about it pleased me.", "", ""],
}
# {first} is what is said against the verdict, {second} what decides it.
TRAIN_CONTRASTS = [
    "The {part} {first}, but the {other} {second}, and that is what counts.",
    "True, the {part} {first}. Still, the {other} {second}, which matters far more to me.",
    "Never mind that the {part} {first}: the {other} {second}.",
]
HELDOUT_CONTRASTS = [
    "That the {part} {first} is a small thing beside how the {other} {second}.",
    "Although the {part} {first}, all I think of is that the {other} {second}.",
]
TRAIN_STATEMENTS = ["The {part} {first}.", "The {part} {first}, and the {other} {second}."]
HELDOUT_STATEMENTS = ["What struck me: the {part} {first}.", "The {part} {first}; the {other} {second}."]


class Frames(NamedTuple):
    things: list[Thing]
    openings: list[str]
    statements: list[str]
    contrasts: list[str]
    verdicts: dict[str, list[str]]


TRAIN = Frames(TRAIN_THINGS, TRAIN_OPENINGS, TRAIN_STATEMENTS, TRAIN_CONTRASTS, TRAIN_VERDICTS)
HELDOUT = Frames(HELDOUT_THINGS, HELDOUT_OPENINGS, HELDOUT_STATEMENTS, HELDOUT_CONTRASTS, HELDOUT_VERDICTS)


def review(frames: Frames, label: str, rng: random.Random, *, new_words: bool) -> tuple[str, bool]:
    """One review, and whether it concedes something first and then says what decides, as a third of them do.

    ``new_words``: whether its statements are those kept out of training.
    """
    thing = rng.choice(frames.things)
    part, other = rng.sample([each for each in PARTS if each.name in thing.parts], 2)
    conceding = rng.random() < 1 / 3
    against = LABELS[1 - LABELS.index(label)]
    frame = rng.choice(frames.contrasts if conceding else frames.statements)
    statement = frame.format(
        part=part.name,
        other=other.name,
        first=_said(part, against if conceding else label, rng, new_words=new_words),
        second=_said(other, label, rng, new_words=new_words),
    )
    opening = rng.choice(frames.openings).format(thing=thing.name)
    verdict = rng.choice(frames.verdicts[label])
    # Without an opening the statement has to say what it is about.
    if not opening:
        opening = f"About the {thing.name}."
    return " ".join(sentence for sentence in (opening, statement, verdict) if sentence), conceding


def _said(part: Part, label: str, rng: random.Random, *, new_words: bool) -> str:
    phrases = part.praise if label == "positive" else part.blame
    return rng.choice(phrases[2:] if new_words else phrases[:2])


def rows(
    frames: Frames, count: int, rng: random.Random, known: set[str], *, heldout: bool
) -> list[dict[str, str | bool]]:
    """``count`` different reviews, half of each label, none of them in ``known``."""
    made: list[dict[str, str | bool]] = []
    while len(made) < count:
        label = LABELS[len(made) % 2]
        # The first two phrases of a part are those of training; half of the held-out rows have the others.
        text, conceding = review(frames, label, rng, new_words=heldout and len(made) % 4 >= 2)
        if text not in known:
            known.add(text)
            made.append({"instruction": INSTRUCTION, "text": text, "label": label, "concedes": conceding})
    rng.shuffle(made)
    return made


def make() -> dict[str, list[dict[str, str | bool]]]:
    """The rows of both files, by file name."""
    rng, known = random.Random(SEED), set[str]()
    return {
        "reviews_en.jsonl": rows(TRAIN, TRAIN_ROWS, rng, known, heldout=False),
        "reviews_heldout.jsonl": rows(HELDOUT, HELDOUT_ROWS, rng, known, heldout=True),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the two files and print their sizes."""
    folder = output_folder(argv, "Write the reviews.")
    for name, content in make().items():
        write_jsonl(folder / name, content)
        print(f"{name}: {len(content)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
