"""The text of --help: each option with its type, choices and default; entries of lists once, at the end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config.fields import option
from hf_align.config.group import Group, Recipe
from hf_align.config.help import WIDTH, help_text


@dataclass(frozen=True)
class Stop(Group):
    title: ClassVar[str] = "Entries of stops"
    place: str = option(help="where")


@dataclass(frozen=True)
class Journey(Group):
    title: ClassVar[str] = "Journey"
    goal: str = option(help="where it ends")
    speed: float | None = option(None, help="metres per second; " + "and so on " * 12)
    kind: Literal["slow", "fast"] = option("slow", help="how")
    by_night: bool = option(True, help="without stops")
    coaches: int = option(2, help="in a row", changes="speed")
    seats: int = option(2, help="of each", changes="rounding")
    stops: list[Stop] = option(factory=list, help="on the way")
    returns: list[Stop] = option(factory=list, help="on the way back")


@dataclass(frozen=True)
class JourneyRecipe(Recipe):
    """Somewhere."""

    journey: Journey = dataclasses.field(default_factory=lambda: Journey("x"))


def test_every_option_and_each_kind_of_entry() -> None:
    text = help_text(JourneyRecipe, command="go", description="Go somewhere.\nSoon.")
    lines = text.splitlines()
    assert lines[0] == "usage: hf-align go --config RECIPE.yaml [--key value ...]"
    assert lines[2] == "Go somewhere. Soon."
    assert max(map(len, lines)) <= WIDTH
    listed = [line.split() for line in lines if line.startswith("  --")]
    assert [words[0] for words in listed][2:] == [
        "--goal", "--speed", "--kind", "--by_night", "--coaches", "--seats", "--stops", "--returns"
    ]  # fmt: skip
    assert ["--goal", "TEXT", "where", "it", "ends", "[required]"] in listed
    assert "[one of slow, fast; default slow]" in text and "without stops [default true]" in text
    assert "in a row [default 2; speed and memory only]" in text
    assert "of each [default 2; speed and memory only, but for rounding]" in text
    assert text.count("Entries of stops:") == 1
    assert lines[-1].split() == [
        "place:",
        "TEXT",
        "where",
        "[required]",
    ]


def test_a_usage_of_its_own() -> None:
    text = help_text(JourneyRecipe, command="go", description="", usage="usage: hf-align go PLACE")
    assert text.startswith("usage: hf-align go PLACE\n") and "RECIPE.yaml [--key" not in text
