"""What the conversations of make_tool_calls.py say: names, things, and the frames of sentences.

Of each pair of frames the first is for training and the second held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from make_data import ENGLISH


class Words(NamedTuple):
    """What fills the frames."""

    cities: Sequence[str]
    names: Sequence[str]
    labels: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]


TRAIN = Words(
    ENGLISH.train_cities,
    "Anna Ben Carla David Emma Felix Greta Hugo Ida Jonas".split(),
    "tea pasta eggs bread laundry nap rice soup workout cake dishes homework".split(),
    (
        "dentist",
        "team meeting",
        "piano lesson",
        "haircut",
        "lunch with Emma",
        "car inspection",
        "book club",
        "yoga class",
        "job interview",
        "parents evening",
    ),
    (
        "I am running late",
        "the parcel has arrived",
        "dinner is ready",
        "see you on Friday",
        "please call me back",
        "the keys are under the mat",
        "happy birthday",
        "the meeting is moved to noon",
        "we are out of milk",
        "good luck today",
    ),
)
HELDOUT = Words(
    ENGLISH.heldout_cities,
    "Karl Lena Mona Nils Olga Rosa".split(),
    "pizza coffee muffins potatoes plants break".split(),
    ("eye doctor", "swimming lesson", "choir practice", "house viewing", "coffee with Lena"),
    (
        "the train is cancelled",
        "I found your umbrella",
        "dinner is at eight",
        "the door code has changed",
        "thanks for the flowers",
    ),
)

MEASURES = (
    ("km", "kilometres", "mi", "miles"),
    ("kg", "kilograms", "lb", "pounds"),
    ("l", "litres", "gal", "gallons"),
    ("C", "degrees Celsius", "F", "degrees Fahrenheit"),
)

FRAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "convert_units": (
        (
            "How many {to} are {n} {of}?",
            "Convert {n} {of} to {to}.",
            "{n} {of} in {to}, please.",
            "What is {n} {of} in {to}?",
            "I need {n} {of} as {to}.",
            "Tell me how much {n} {of} is in {to}.",
            "Change {n} {of} into {to} for me.",
            "My recipe says {n} {of}. What is that in {to}?",
        ),
        (
            "The sign reads {n} {of}; give me {to}.",
            "Could you express {n} {of} in {to}?",
            "To {to}, please: {n} {of}.",
            "{n} {of} would be how many {to}?",
        ),
    ),
    "set_timer": (
        (
            "Set a timer for the {label}, {d}.",
            "Wake me in {d}, it is for the {label}.",
            "{d} for the {label}, please.",
            "Timer: {label}, {d}.",
            "The {label} takes {d}. Start a timer.",
            "Remind me of the {label} in {d}.",
            "Start counting {d} for the {label}.",
            "I need a {label} timer of {d}.",
        ),
        (
            "Let me know when {d} are over, the {label} must not wait.",
            "Please time the {label}: {d}.",
            "Give the {label} {d} and ring then.",
            "Ring a bell for the {label} after {d}.",
        ),
    ),
    "add_event": (
        (
            "Put {title} on {date} at {time}.",
            "Add {title} to my calendar: {date}, {time}.",
            "I have {title} on {date} at {time}. Note it.",
            "New event: {title}, {time} on {date}.",
            "Please enter {title} for {date}, {time}.",
            "Schedule {title} at {time} on {date}.",
            "On {date} at {time} there is {title}. Write it down.",
            "Mark {date}, {time} for {title}.",
        ),
        (
            "Do not let me forget {title} at {time} on {date}; keep it in the calendar.",
            "Block {time} on {date} for {title}.",
            "{title} was fixed for {date} at {time}, add that.",
            "My calendar lacks {title}: {date}, {time}.",
        ),
    ),
    "list_events": (
        (
            "What is on {date}?",
            "Do I have anything on {date}?",
            "Show my events of {date}.",
            "Am I free on {date}?",
            "What does my calendar say for {date}?",
            "Read me the appointments of {date}.",
            "List what happens on {date}.",
            "Which meetings do I have on {date}?",
        ),
        (
            "Is {date} busy?",
            "Look up {date} in the calendar.",
            "I wonder what is planned for {date}.",
            "Any plans on {date}?",
        ),
    ),
    "get_weather": (
        (
            "What is the weather in {city} {day}?",
            "Will it rain in {city} {day}?",
            "Do I need an umbrella in {city} {day}?",
            "How warm is {city} {day}?",
            "Weather for {city}, {day}.",
            "Is it sunny in {city} {day}?",
            "Give me the forecast for {city} {day}.",
            "I am in {city} {day}. What should I wear?",
        ),
        (
            "Shall I take a coat to {city} {day}?",
            "How does the sky look over {city} {day}?",
            "We walk through {city} {day}; will we get wet?",
            "Tell me if {city} is cold {day}.",
        ),
    ),
    "send_message": (
        (
            'Write to {name}: "{text}".',
            "Tell {name} that {text}.",
            "Send {name} a message: {text}.",
            'Text {name} "{text}".',
            "Let {name} know: {text}.",
            "Message for {name}: {text}.",
            'Please send "{text}" to {name}.',
            'Can you write "{text}" to {name}?',
        ),
        (
            'Drop {name} a line saying "{text}".',
            "{name} should hear this: {text}.",
            'Pass "{text}" on to {name}.',
            "Inform {name}: {text}.",
        ),
    ),
}

ASKED_BACK = (
    (
        ("Set a timer for the {label}.", "How many minutes does the {label} take?"),
        ("Start the clock, the {label} is on.", "How many minutes does the {label} take?"),
        ("Send a message to {name}.", "What should the message to {name} say?"),
        ("Write to {name}.", "What should the message to {name} say?"),
        ("Add {title} to my calendar.", "On which day and at what time is {title}?"),
        ("Put {title} down.", "On which day and at what time is {title}?"),
        ("What will the weather be like in {city}?", "In {city} today, or tomorrow?"),
        ("Will it rain in {city}?", "In {city} today, or tomorrow?"),
        ("Thank you, {name} here.", "You are welcome, {name}."),
        ("Hello, I am {name}.", "Hello {name}, what can I do for you?"),
        ("Good morning, this is {name}.", "Hello {name}, what can I do for you?"),
        ("That was all. Thanks, {name}.", "You are welcome, {name}."),
    ),
    (
        ("I want a timer, for the {label}.", "How many minutes does the {label} take?"),
        ("Please text {name}.", "What should the message to {name} say?"),
        ("I have {title} soon, note it.", "On which day and at what time is {title}?"),
        ("How is the weather in {city}?", "In {city} today, or tomorrow?"),
        ("Many thanks from {name}.", "You are welcome, {name}."),
        ("Hi, {name} speaking.", "Hello {name}, what can I do for you?"),
    ),
)
SKIES = "rain snow sun clouds fog wind".split()
