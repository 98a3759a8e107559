"""Write the tool set (tools.json, tool_calls.jsonl, tool_calls_heldout.jsonl) into this folder.

    python data/make_tool_calls.py [--output FOLDER]

Six invented tools, and conversations in which an assistant calls one of them, answers with what a tool gave
back, or needs none. The words are in tool_words.py and the seed is fixed, so every run writes the same bytes.
The held-out file shares no sentence frame with the training file, and half of its names, cities, events and
messages are new; what makes the rows hard is in data/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

from make_data import ENGLISH, NUMBERS_EN, Maker, dates_en, output_folder, write_jsonl
from tool_words import ASKED_BACK, FRAMES, HELDOUT, MEASURES, SKIES, TRAIN, Words

Turns = list[dict[str, Any]]

SEED = 20261201
CALLS, RESULTS, PLAIN = 75, 25, 75
"""Exchanges for training: calls of each tool, results of each of three tools, answers without a tool."""
HELDOUT_CALLS, HELDOUT_RESULTS, HELDOUT_PLAIN = 12, 5, 13
EXCHANGES = (1, 3, 5)
"""In a training row: so many in turn. Held-out rows have one."""


def _tool(name: str, description: str, **parameters: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters, "required": list(parameters)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


TEXT = {"type": "string"}
DATE = TEXT | {"description": "MM-DD"}
TOOLS = [
    _tool(
        "convert_units",
        "Convert a measure.",
        value={"type": "number"},
        from_unit=TEXT,
        to_unit=TEXT | {"description": "km, mi, kg, lb, l, gal, C or F"},
    ),
    _tool("set_timer", "Start a timer.", minutes={"type": "integer"}, label=TEXT),
    _tool("add_event", "Enter an event.", title=TEXT, date=DATE, time=TEXT | {"description": "HH:MM"}),
    _tool("list_events", "Look up the events of a day.", date=DATE),
    _tool("get_weather", "Forecast.", city=TEXT, day=TEXT | {"enum": ["today", "tomorrow"]}),
    _tool("send_message", "Send a message.", recipient=TEXT, text=TEXT),
]


def durations(minutes: int) -> list[str]:
    """The ways to write so many minutes."""
    forms = [f"{minutes} minutes"]
    if 2 <= minutes <= 20:
        forms.append(f"{NUMBERS_EN[minutes - 2]} minutes")
    known = {15: "a quarter of an hour", 30: "half an hour", 60: "an hour", 90: "an hour and a half"}
    return forms + ([known[minutes]] * 2 if minutes in known else [])


def times(hour: int, half: bool) -> list[str]:
    """The ways to write a time of day; without ``half`` it is the full hour."""
    twelve, part = (hour - 1) % 12 + 1, "am" if hour < 12 else "pm"
    if half:
        daytime = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
        return [f"{hour:02d}:30", f"{twelve}:30 {part}", f"half past {_hour(twelve)} {daytime}"]
    return [f"{hour:02d}:00", f"{twelve} {part}", *(["noon"] * 2 if hour == 12 else [])]


def _hour(number: int) -> str:
    return "one" if number == 1 else NUMBERS_EN[number - 2]


class Slots(NamedTuple):
    """What fills a frame, and the arguments of the call that it stands for."""

    words: dict[str, str]
    arguments: dict[str, Any]


def slots(tool: str, maker: Maker, words: Words) -> Slots:
    """A random call of ``tool`` and how it is put."""
    pick, whole = maker.pick, maker.whole
    if tool == "convert_units":
        first, first_name, second, second_name = MEASURES[whole(0, 3)]
        if whole(0, 1):
            first, first_name, second, second_name = second, second_name, first, first_name
        value: float = whole(2, 120)
        if whole(1, 4) == 1:
            value += 0.5
        figures = f"{value:g}"
        written = pick([figures, NUMBERS_EN[int(value) - 2]]) if value in range(2, 21) else figures
        arguments = {"value": value, "from_unit": first, "to_unit": second}
        return Slots({"n": written, "of": first_name, "to": second_name}, arguments)
    if tool == "set_timer":
        minutes = pick([*map(str, range(2, 21)), *"15 30 60 90 25 35 40 45 50 55".split()])
        label = pick(words.labels)
        return Slots(
            {"label": label, "d": pick(durations(int(minutes)))}, {"minutes": int(minutes), "label": label}
        )
    if tool == "get_weather":
        city, day = pick(words.cities), pick(["today", "tomorrow"])
        return Slots({"city": city, "day": day}, {"city": city, "day": day})
    if tool == "send_message":
        name, text = pick(words.names), pick(words.texts)
        return Slots({"name": name, "text": text}, {"recipient": name, "text": text})
    month, day_of_month = whole(1, 12), whole(1, 28)
    date, written_date = f"{month:02d}-{day_of_month:02d}", pick(dates_en(month, day_of_month))
    if tool == "list_events":
        return Slots({"date": written_date}, {"date": date})
    title, hour, half = pick(words.titles), whole(7, 20), bool(whole(0, 1))
    filled = {"title": title, "date": written_date, "time": pick(times(hour, half))}
    return Slots(filled, {"title": title, "date": date, "time": f"{hour:02d}:{30 if half else 0:02d}"})


def result(tool: str, maker: Maker, words: Words, arguments: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """(what the tool gives back, the answer that says so)."""
    if tool == "get_weather":
        sky, degrees = maker.pick(SKIES), maker.whole(-8, 34)
        answer = f"{arguments['city']} has {sky} {arguments['day']}, at {degrees} degrees."
        return {"sky": sky, "degrees": degrees}, answer
    if tool == "convert_units":
        value = maker.whole(3, 2000) / 10
        answer = f"{arguments['value']:g} {arguments['from_unit']} are {value:g} {arguments['to_unit']}."
        return {"value": value, "unit": arguments["to_unit"]}, answer
    title, hour = maker.pick(words.titles), maker.whole(7, 20)
    if not maker.whole(0, 2):
        return {"events": []}, f"Nothing is planned on {arguments['date']}."
    events = [f"{hour:02d}:00 {title}"]
    return {"events": events}, f"On {arguments['date']} there is: {events[0]}."


def _call(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": tool, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def make_exchanges(
    key: str, chosen: Callable[[int], Words], part: int, calls: int, results: int, plain: int
) -> list[Turns]:
    """What is said in one file, in mixed order. ``chosen``: the words of number i; ``part``: which frames."""
    maker = Maker(ENGLISH, f"{SEED}-{key}")
    rows: list[Turns] = []
    seen: set[str] = set()

    def request(tool: str, number: int) -> tuple[Turns, Words, dict[str, Any]]:
        frames, words, text = FRAMES[tool][part], chosen(number), ""
        while not text or text in seen:
            filled = slots(tool, maker, words)
            text = _capital(frames[number % len(frames)].format(**filled.words))
        seen.add(text)
        turns = [{"role": "user", "content": text}, _call(tool, filled.arguments)]
        return turns, words, filled.arguments

    for tool in FRAMES:
        rows += [request(tool, number)[0] for number in range(calls)]
    for tool in ("get_weather", "convert_units", "list_events"):
        for number in range(results):
            turns, words, arguments = request(tool, number)
            given, answer = result(tool, maker, words, arguments)
            turns.append({"role": "tool", "name": tool, "content": json.dumps(given)})
            rows.append([*turns, {"role": "assistant", "content": answer}])
    for number in range(plain):
        question, answer = ASKED_BACK[part][number % len(ASKED_BACK[part])]
        words, text = chosen(number), ""
        while not text or text in seen:
            filled = {
                "name": maker.pick(words.names),
                "title": maker.pick(words.titles),
                "label": maker.pick(words.labels),
                "city": maker.pick(words.cities),
            }
            text = question.format(**filled)
        seen.add(text)
        turns = [{"role": "user", "content": text}]
        rows.append([*turns, {"role": "assistant", "content": answer.format(**filled)}])
    # By random() alone, which is the same in every version of Python.
    order = sorted(range(len(rows)), key=[maker.random.random() for _ in rows].__getitem__)
    return [rows[number] for number in order]


def joined(exchanges: Sequence[Turns], lengths: Sequence[int]) -> Iterator[dict[str, Turns]]:
    """Conversations of so many exchanges in turn, until none is left."""
    sizes, waiting = cycle(lengths), iter(exchanges)
    while part := list(islice(waiting, next(sizes))):
        yield {"messages": [turn for exchange in part for turn in exchange]}


def main(argv: list[str] | None = None) -> int:
    """Write the three files and print their sizes."""
    folder = output_folder(argv, "Write the tools and the conversations that call them.")
    text = json.dumps(TOOLS, indent=1, ensure_ascii=False)
    (folder / "tools.json").write_bytes(f"{text}\n".encode())
    train = make_exchanges("train", lambda number: TRAIN, 0, CALLS, RESULTS, PLAIN)
    heldout = make_exchanges(
        "heldout",
        lambda number: HELDOUT if number % 2 else TRAIN,
        1,
        HELDOUT_CALLS,
        HELDOUT_RESULTS,
        HELDOUT_PLAIN,
    )
    for name, exchanges, lengths in (
        ("tool_calls", train, EXCHANGES),
        ("tool_calls_heldout", heldout, (1,)),
    ):
        rows = list(joined(exchanges, lengths))
        write_jsonl(folder / f"{name}.jsonl", rows)
        print(f"{name}.jsonl: {len(rows)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
