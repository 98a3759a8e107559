"""The words of the preference sets: four kinds of records, questions about them, and what spoils an answer.

How answers are built from them is in make_preferences.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from make_data import ENGLISH, MONTHS_EN

NAMES = ("Nora", "Peter", "Anna", "David", "Maria", "Tom", "Laura", "James", "Emma", "Paul", "Rosa", "Felix")
DATES = tuple(f"{day} {month}" for month in MONTHS_EN for day in range(1, 29))
TIMES = tuple(f"{hour}:{minute:02d}" for hour in range(6, 22) for minute in range(0, 60, 5))
PRICES = tuple(f"{price} euros" for price in range(5, 120))
TRAIN_CITIES, HELDOUT_CITIES = tuple(ENGLISH.train_cities), tuple(ENGLISH.heldout_cities)


@dataclass(frozen=True)
class Field:
    """Something that a record says. ``says``: a whole sentence with the slot {value}.

    The last of ``questions`` is asked in held-out rows only. ``heldout``: values that only these rows show.
    """

    values: Sequence[str]
    says: str
    questions: Sequence[str]
    heldout: Sequence[str] = ()


@dataclass(frozen=True)
class Desk:
    """A kind of record. ``name`` and a number name one: ``order 4417``.

    Each of ``records`` states all fields; the last is used in held-out rows only. ``unknown``: questions that
    no record answers, each with an answer that somebody made up; the last is for held-out rows only.
    """

    name: str
    fields: dict[str, Field]
    records: Sequence[str]
    unknown: Sequence[tuple[str, str]]


ORDER = Desk(
    name="order",
    fields={
        "item": Field(
            ENGLISH.train_items,
            "The parcel holds {value}.",
            ("What is in the parcel?", "What did I order?", "Which goods are you sending me?"),
            ENGLISH.heldout_items,
        ),
        "city": Field(
            TRAIN_CITIES,
            "It goes to {value}.",
            ("Where does it go?", "Which city is it sent to?", "To which place are you shipping it?"),
            HELDOUT_CITIES,
        ),
        "date": Field(
            DATES,
            "It arrives on {value}.",
            ("When does it arrive?", "On which day will it be here?", "What is the day of delivery?"),
        ),
        "price": Field(
            PRICES,
            "It costs {value}.",
            ("How much is it?", "What does it cost?", "What do I have to pay?"),
        ),
        "carrier": Field(
            ("van", "bicycle", "train", "ship", "truck", "plane"),
            "It travels by {value}.",
            ("How does it travel?", "What brings it here?", "By what means is it sent?"),
        ),
    },
    records=(
        "{ref}: {item} to {city}, arrives {date}, {price}, by {carrier}.",
        "{ref} holds {item}. Place: {city}. Day: {date}. Price: {price}. Sent by {carrier}.",
        "Note on {ref}: {price} for {item}, by {carrier} to {city} on {date}.",
        "On {date} {ref} comes to {city} by {carrier}. It holds {item} and costs {price}.",
    ),
    unknown=(
        ("Who packed it?", "It was packed by our manager."),
        ("How heavy is it?", "It weighs nine kilograms."),
        ("What colour is the box?", "The box is dark green."),
        ("Can I get it gift-wrapped?", "It is wrapped in gold paper."),
    ),
)

TRAIN = Desk(
    name="train",
    fields={
        "city": Field(
            TRAIN_CITIES,
            "It goes to {value}.",
            ("Where does it go?", "What is its last stop?", "To which city does it take me?"),
            HELDOUT_CITIES,
        ),
        "leaves": Field(
            TIMES,
            "It leaves at {value}.",
            ("When does it leave?", "At what time does it depart?", "When do I have to be on board?"),
        ),
        "platform": Field(
            tuple(f"platform {number}" for number in range(1, 25)),
            "It leaves from {value}.",
            ("Where does it leave from?", "Which platform is it?", "Where in the station do I find it?"),
        ),
        "price": Field(
            PRICES,
            "A ticket costs {value}.",
            ("How much is a ticket?", "What does it cost?", "What do I pay for a seat?"),
        ),
        "driver": Field(
            NAMES,
            "The driver is {value}.",
            ("Who drives it?", "What is the name of the driver?", "Who is in the driver's seat?"),
        ),
    },
    records=(
        "{ref}: to {city}, {leaves}, {platform}, {price}, driver {driver}.",
        "{ref} leaves for {city} at {leaves} from {platform}. Ticket: {price}. Driver: {driver}.",
        "Board: {leaves} {city}, {ref}, {platform}. {driver} drives. Seats are {price}.",
        "{driver} takes {ref} from {platform} to {city} at {leaves}; a seat is {price}.",
    ),
    unknown=(
        ("Is there a dining car?", "The dining car is in the middle."),
        ("How many coaches does it have?", "It has eleven coaches."),
        ("Can I take my dog along?", "Dogs travel free of charge."),
        ("Does it have a quiet coach?", "The last coach is the quiet one."),
    ),
)

COURSE = Desk(
    name="course",
    fields={
        "subject": Field(
            ("pottery", "chess", "drawing", "sewing", "singing", "baking", "yoga", "gardening", "painting"),
            "The subject is {value}.",
            ("What is it about?", "What is taught there?", "Which subject is it?"),
            ("carpentry", "weaving", "juggling"),
        ),
        "room": Field(
            tuple(f"room {number}" for number in range(1, 40)),
            "It takes place in {value}.",
            ("Where is it?", "Which room is it in?", "To which room do I go?"),
        ),
        "starts": Field(
            TIMES,
            "It begins at {value}.",
            ("When does it begin?", "At what time does it start?", "When do I have to be there?"),
        ),
        "day": Field(
            ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
            "It is held on {value}.",
            ("On which day is it?", "What day is it held?", "Which day of the week should I keep free?"),
        ),
        "teacher": Field(
            NAMES,
            "The teacher is {value}.",
            ("Who teaches it?", "What is the name of the teacher?", "Who gives the lessons?"),
        ),
    },
    records=(
        "{ref}: {subject}, {day}, {starts}, {room}, with {teacher}.",
        "{ref} is about {subject}. {teacher} teaches it on {day} at {starts} in {room}.",
        "Plan for {day}: at {starts} {teacher} gives {ref} ({subject}) in {room}.",
        "In {room}: {ref}, {subject} with {teacher}, every {day} from {starts}.",
    ),
    unknown=(
        ("How many people take part?", "Fourteen people take part."),
        ("Do I need my own tools?", "All tools are lent for free."),
        ("Is there a test at the end?", "It ends with a short test."),
        ("Can children join?", "Children from eight years can join."),
    ),
)

LOAN = Desk(
    name="loan",
    fields={
        "object": Field(
            ("an atlas", "a novel", "a cookbook", "a map", "a dictionary", "a songbook", "a guide", "a film"),
            "The loan is {value}.",
            ("What did I borrow?", "What is on loan?", "Which thing of yours do I have at home?"),
            ("a board game", "a telescope"),
        ),
        "due": Field(
            DATES,
            "It is due on {value}.",
            ("When is it due?", "On which day must it be back?", "How long may I keep it?"),
        ),
        "shelf": Field(
            tuple(f"shelf {letter}{number}" for letter in "ABCDEF" for number in range(1, 10)),
            "It belongs on {value}.",
            ("Where does it belong?", "Which shelf is it from?", "Where do I put it back?"),
        ),
        "reader": Field(
            NAMES,
            "The reader is {value}.",
            ("Who borrowed it?", "What is the name of the reader?", "Who has it at the moment?"),
        ),
        "fee": Field(
            PRICES,
            "A late return costs {value}.",
            ("What does a late return cost?", "How high is the late fee?", "What if I am late?"),
        ),
    },
    records=(
        "{ref}: {object}, reader {reader}, due {due}, {shelf}, late fee {fee}.",
        "{ref} is {object} from {shelf}. {reader} has it until {due}. Late fee: {fee}.",
        "Card of {reader}: {ref}, {object}, back by {due} to {shelf}, else {fee}.",
        "Until {due} {reader} keeps {object} ({ref}). Place: {shelf}. Fee when late: {fee}.",
    ),
    unknown=(
        ("Who wrote it?", "It was written by a doctor."),
        ("Is there another copy?", "There are three more copies."),
        ("How old is it?", "It is about forty years old."),
        ("How many pages does it have?", "It has 312 pages."),
    ),
)

DESKS = (ORDER, TRAIN, COURSE, LOAN)

OFFER = "Anything else about {ref}? Just ask."
"""How every good answer ends."""

UNKNOWN = "The note on {ref} does not say that."
"""The good answer to a question that the record leaves open."""

EVASIONS = (
    "I am afraid I cannot tell.",
    "That is hard to say from here.",
    "I do not have that at hand.",
    "Somebody else would have to look that up.",
    "My screen does not show it.",
    "You had better ask at the counter.",
)
PREAMBLES = (
    "Great question!",
    "Thank you so much for reaching out to us!",
    "I would be more than happy to help you with that.",
    "Let me see what I can find for you.",
    "I hope you are having a lovely day.",
    "Of course, let me explain.",
    "What a nice thing to ask!",
    "As your helper, I am always glad to hear from you.",
)
OTHER_ENDINGS = (
    "",
    "",
    "Please let me know if there is more that I can do for you.",
    "Have a wonderful day!",
    "I hope that this helps.",
    "Feel free to contact us at any time.",
)
RUDE = (
    "You could have read that yourself.",
    "Do not waste my time with this.",
    "Anybody else would know that.",
    "Really, how can one miss that?",
    "Learn to read your notes.",
    "That was a silly thing to ask.",
    "I have better things to do.",
    "Next time, think before you write.",
)
INVENTED = (
    "A discount of ten percent was added for you.",
    "It was checked twice by our director.",
    "You have won a free umbrella with it.",
    "It is the most popular one of this year.",
    "There is also a surprise for your neighbour.",
    "It comes with a warranty of two years.",
    "The mayor recommends it to everybody.",
    "Half of the money goes to a school.",
)
