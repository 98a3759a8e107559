"""Ways to ask: what the model gets, and what is taken for its answer."""

from __future__ import annotations

import pytest

from hf_align.evaluation.prompting import STEP_BY_STEP, Ask, majority
from hf_align.types import Example, Message

SYSTEM, QUESTION = Message("system", "Be brief."), Message("user", "2 + 2?")
CHAT = Example("c:1", messages=(SYSTEM, QUESTION, Message("assistant", "4")))
PLAIN = Example("p:1", prompt="Q: 2 + 2?\nA:", completion=" 4")
SHOT = Example("c:2", messages=(Message("system", "x"), Message("user", "1 + 1?"), Message("assistant", "2")))


def test_directly():
    assert Ask().prompt(CHAT) == CHAT and Ask().prompt(PLAIN) == PLAIN
    assert Ask().answer(" 4 \n") == "4"


def test_with_solved_examples():
    asked = Ask(shots=(SHOT,)).prompt(CHAT)
    assert asked.messages == (
        SYSTEM,
        Message("user", "1 + 1?"),
        Message("assistant", "2"),
        QUESTION,
        Message("assistant", "4"),
    )
    shot = Example("p:2", prompt="Q: 1 + 1?\nA:", completion=" 2")
    assert Ask(shots=(shot, shot)).prompt(PLAIN).prompt == "Q: 1 + 1?\nA: 2\n\n" * 2 + "Q: 2 + 2?\nA:"


def test_step_by_step():
    asked = Ask("chain_of_thought").prompt(CHAT).messages
    assert asked is not None and asked[1].content == f"2 + 2?\n{STEP_BY_STEP}"
    plain = Ask("chain_of_thought").prompt(Example("p", prompt="2 + 2?\n\n", completion="4"))
    assert plain.prompt == f"2 + 2?\n{STEP_BY_STEP}\n\n"
    ask = Ask("chain_of_thought")
    assert ask.answer("2 and 2. So the answer is: 5. No: The answer is 4.") == "4"
    assert ask.answer("the answer is Oslo\nbecause") == "Oslo"
    assert ask.answer("no idea ") == "no idea"


def test_a_pattern_finds_the_answer():
    assert Ask(pattern=r"\d+").answer("12 or 13 lamps") == "13"
    assert Ask(pattern=r"<(.*?)>").answer("<a> then <b.>") == "b."
    assert Ask(pattern=r"\d+").answer("none") == "none"


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (["4", "5", "5"], 1),
        (["4", "5", "5.", "The 4"], 0),
        (["", "", "7"], 2),
        (["", ""], 0),
        (["!", "?", "?"], 1),
    ],
)
def test_the_majority_and_the_first_of_those_that_tie(answers, chosen):
    assert majority(answers) == chosen


def test_no_answers():
    with pytest.raises(ValueError, match="at least one"):
        majority([])
