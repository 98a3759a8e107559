"""The six tools of data/tools.json as Python functions: ``hf-align chat --tools recipes/chat/assistant.py``.

They stand in for real ones: the calendar lasts as long as the conversation, the weather is made up, and no
message leaves the machine.
"""

from __future__ import annotations

from typing import Literal

_CALENDAR: dict[str, list[str]] = {}
_PER_METRIC = {("km", "mi"): 0.621371, ("kg", "lb"): 2.204623, ("l", "gal"): 0.264172}


def convert_units(value: float, from_unit: str, to_unit: str) -> dict:
    """Convert a measure.

    Args:
        value: How much.
        from_unit: The unit it is in.
        to_unit: km, mi, kg, lb, l, gal, C or F
    """
    if (from_unit, to_unit) == ("C", "F"):
        found = value * 1.8 + 32
    elif (from_unit, to_unit) == ("F", "C"):
        found = (value - 32) / 1.8
    elif (from_unit, to_unit) in _PER_METRIC:
        found = value * _PER_METRIC[from_unit, to_unit]
    elif (to_unit, from_unit) in _PER_METRIC:
        found = value / _PER_METRIC[to_unit, from_unit]
    else:
        raise ValueError(f"cannot convert {from_unit} to {to_unit}")
    return {"value": round(found, 1), "unit": to_unit}


def set_timer(minutes: int, label: str) -> dict:
    """Start a timer.

    Args:
        minutes: When it rings.
        label: What for.
    """
    return {"timer": label, "minutes": minutes}


def add_event(title: str, date: str, time: str) -> dict:
    """Enter an event.

    Args:
        title: What it is.
        date: MM-DD
        time: HH:MM
    """
    _CALENDAR.setdefault(date, []).append(f"{time} {title}")
    return list_events(date)


def list_events(date: str) -> dict:
    """Look up the events of a day.

    Args:
        date: MM-DD
    """
    return {"events": sorted(_CALENDAR.get(date, []))}


def get_weather(city: str, day: Literal["today", "tomorrow"]) -> dict:
    """Forecast.

    Args:
        city: Where.
        day: When.
    """
    number = sum(map(ord, city + day))
    return {"sky": ("rain", "sun", "clouds", "wind")[number % 4], "degrees": number % 35}


def send_message(recipient: str, text: str) -> dict:
    """Send a message.

    Args:
        recipient: To whom.
        text: What it says.
    """
    return {"sent": text, "to": recipient}
