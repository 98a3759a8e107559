"""Stand-ins for personal data: check digits, the same everywhere, never found again."""

from __future__ import annotations

import pytest

from hf_align.corpus.document import Document
from hf_align.corpus.rules.personal_data import luhn, personal_data, valid_iban


def replaced(text: str, **options: object) -> str:
    return personal_data(Document("d", text), **options).text or text  # type: ignore[arg-type]


def test_check_digits() -> None:
    assert luhn("4111111111111111") and not luhn("4111111111111112")
    assert valid_iban("GB82WEST12345698765432") and not valid_iban("GB83WEST12345698765432")


@pytest.mark.parametrize(
    ("text", "kind", "gone"),
    [
        ("write to ada.lovelace@mail.org now", "email", "lovelace"),
        ("the host 8.8.8.8 answers", "ip", "8.8.8.8"),
        ("pay to GB82 WEST 1234 5698 7654 32 today", "iban", "WEST"),
        ("card 4111 1111 1111 1111 was used", "card", "4111"),
        ("call +44 20 7946 0958 in the evening", "phone", "7946"),
        ("token ghp_abcdefghijklmnopqrstuvwxyz0123456789 leaked", "keys", "ghp_"),
        ("at https://ada:secret@host.org/x", "keys", "secret"),
    ],
)
def test_each_kind_is_replaced_counted_and_not_found_again(text: str, kind: str, gone: str) -> None:
    verdict = personal_data(Document("d", text))
    assert verdict.text is not None and gone not in verdict.text and verdict.edits == {kind: 1}
    assert replaced(verdict.text) == verdict.text


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.400",
        "at 192.168.0.1 or 127.0.0.1",
        "number 4111111111111112",
        "me@example.com",
        "0000 0000",
    ],
)
def test_what_is_nobodys_stays(text: str) -> None:
    assert personal_data(Document("d", text)).text is None


def test_one_address_is_one_person_in_every_document() -> None:
    one, other = (replaced(f"{words} a@b.org and c@d.org") for words in ("From", "To"))
    assert one.split()[1:] == other.split()[1:] and one.split()[1] != one.split()[3]


def test_only_the_kinds_that_are_asked_for() -> None:
    text = "a@b.org at 8.8.8.8"
    assert replaced(text, kinds=["ip"]).startswith("a@b.org at ") and "8.8.8.8" not in replaced(
        text, kinds=["ip"]
    )
