"""A judge: the last verdict of a reply counts."""

from __future__ import annotations

import pytest

from hf_align.evaluation.judging.judge import Judge, read_verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Because.\nVerdict: 1", "first"),
        ("verdict: 2\n**Verdict:** 1", "first"),
        ("Verdict: Tie.", "tie"),
        ("Verdict: 12", "unreadable"),
        ("The first one.", "unreadable"),
        ("", "unreadable"),
    ],
)
def test_the_last_verdict_counts(reply, verdict):
    assert read_verdict(reply) == verdict


def test_answers_stand_in_the_prompt_and_verdicts_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def replies(self, conversations, temperature, progress=None):
        asked.extend(conversations)
        assert temperature == 0.0
        return ["Verdict: tie", "Verdict: 2", "no idea", None]

    monkeypatch.setattr(Judge, "replies", replies)
    pairs = [("q {first}", "a", "b"), ("q", "c{", "d"), ("q", "e", "f"), ("q", "g", "h")]
    assert Judge("http://x", "j").compare(pairs) == ["tie", "second", "unreadable", "refused"]
    (message,) = asked[0]
    assert (
        message.role == "user"
        and "[Request]\nq {first}\n\n[Answer 1]\na\n\n[Answer 2]\nb\n" in message.content
    )
    assert "c{" in asked[1][0].content


def test_a_verdict_in_thoughts_is_none() -> None:
    assert read_verdict("<think>Verdict: 1</think> Verdict: 2") == "second"
    assert read_verdict("<think>Verdict: 1, or") == "unreadable"
