"""C4's rules on lines and documents."""

from __future__ import annotations

from hf_align.corpus import c4 as reasons
from hf_align.corpus.document import Document
from hf_align.corpus.rules.c4 import C4, c4

FIVE = "One is here. Two is here. Three is here. Four is here. Five is here."


def test_lines_go_one_by_one_and_edits_are_counted() -> None:
    lines = ["Home", "Enable javascript to see this page", "Read our privacy policy today"]
    text = "\n".join([f"{FIVE} See [12] there.", *lines, f"{'x' * 1001} two three"])
    verdict = c4(Document("d", text))
    assert verdict.keep and verdict.text == f"{FIVE} See  there."
    assert verdict.edits == {
        "citations": 1,
        "short_lines": 1,
        "javascript_lines": 1,
        "policy_lines": 1,
        "lines_with_a_long_word": 1,
    }


def test_documents_with_too_little_code_or_filler_go() -> None:
    assert [(r.rule, r.value, r.threshold) for r in reasons("One is here. Two is here.")] == [
        ("sentences", 2, 5)
    ]
    assert [r.rule for r in reasons(FIVE + " f() { }")] == ["curly_brackets"]
    assert [r.rule for r in reasons(FIVE + " Lorem ipsum dolor.")] == ["lorem_ipsum"]
    assert reasons(FIVE) == []


def test_lines_without_an_end_stay_unless_asked() -> None:
    text = f"{FIVE}\nthis has no end"
    assert c4(Document("d", text)).text is None
    assert c4(Document("d", text), {**C4, "terminal_punctuation": 1}).text == FIVE


def test_editing_twice_changes_nothing_more() -> None:
    once = c4(Document("d", f"{FIVE} [1]\nHome\n\n\n{FIVE}")).text
    assert once is not None and c4(Document("d", once)).text is None
