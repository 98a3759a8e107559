"""Personal data and secrets are replaced by stand-ins that look the same everywhere the original stood.

A stand-in follows from the original alone, so that one address is one person in every document, whatever the
order and the number of processes. None of them is found again as personal data: names are under example.com
(RFC 2606), addresses in the blocks for documentation (RFC 5737), numbers fail their check digits.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from hf_align.corpus.document import KEPT, Document, Verdict
from hf_align.errors import UserError

_EMAIL = re.compile(r"(?<![\w.+%-])(?<!://user:)[\w.+%-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}(?![\w-])")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]\d|\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])")
_CREDENTIALS = re.compile(r"(?<=://)[^\s/:@]{1,256}:[^\s/@]{1,256}(?=@)")
_KEY = re.compile(
    r"\b(?:sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,200}|gh[pousr]_[A-Za-z0-9]{30,200}|github_pat_[A-Za-z0-9_]{30,200}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abprs]-[A-Za-z0-9-]{10,200}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,200}"
    r"|glpat-[A-Za-z0-9_-]{20,200}|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,2000})"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?-----END [A-Z ]{0,30}PRIVATE KEY-----", re.DOTALL
)
_DOCUMENTATION = ("192.0.2", "198.51.100", "203.0.113")
_RESERVED = ("example.com", "example.org", "example.net")
_SHORTEST_IBAN = 15


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others, as in numbers of cards."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def valid_iban(text: str) -> bool:
    """Whether the two check digits fit (ISO 13616, remainder 1 by 97)."""
    compact = text.replace(" ", "")
    if len(compact) < _SHORTEST_IBAN:
        return False
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


def _number(original: str, below: int) -> int:
    digest = hashlib.blake2b(original.lower().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % below


def _email(found: str) -> str | None:
    if found.lower().endswith(_RESERVED):
        return None
    return f"person{_number(found, 10**6):06d}@example.com"


def _ip(found: str) -> str | None:
    try:
        address = ipaddress.IPv4Address(found)
    except ValueError:  # a version number such as 1.2.3.400
        return None
    if not address.is_global:
        return None
    return f"{_DOCUMENTATION[_number(found, 3)]}.{1 + _number(found, 254)}"


def _iban(found: str) -> str | None:
    # The text behind the number may belong to the match: the longest beginning that checks is the number.
    for end in range(len(found), _SHORTEST_IBAN - 1, -1):
        if found[end - 1] != " " and valid_iban(found[:end]):
            return f"{found[:2]}00{_number(found[:end], 10**14):014d}{found[end:]}"
    return None


def _card(found: str) -> str | None:
    digits = re.sub(r"\D", "", found)
    if not luhn(digits) or len(set(digits)) == 1:
        return None
    stand_in = f"0000{_number(digits, 10 ** (len(digits) - 4)):0{len(digits) - 4}d}"
    if luhn(stand_in):
        stand_in = stand_in[:-1] + str((int(stand_in[-1]) + 1) % 10)
    fresh = iter(stand_in)
    return re.sub(r"\d", lambda _: next(fresh), found)


def _key(found: str) -> str:
    return f"[key {_number(found, 10**6):06d}]"


def _credentials(found: str) -> str | None:
    return None if found == "user:password" else "user:password"


_PATTERNS: dict[str, list[tuple[re.Pattern[str], Callable[[str], str | None]]]] = {
    "keys": [(_PRIVATE_KEY, _key), (_KEY, _key), (_CREDENTIALS, _credentials)],
    "email": [(_EMAIL, _email)],
    "ip": [(_IPV4, _ip)],
    "iban": [(_IBAN, _iban)],
    "card": [(_CARD, _card)],
}
KINDS = (*_PATTERNS, "phone")


def personal_data(document: Document, *, kinds: Sequence[str] = KINDS, region: str | None = None) -> Verdict:
    """Replaces e-mail addresses, public IPv4 addresses, IBANs, card and phone numbers, keys and passwords.

    ``region``: country (``US``) whose national phone numbers are found too; without it those with + alone.
    """
    text, edits = document.text, Counter[str]()
    for kind, patterns in _PATTERNS.items():
        if kind in kinds:
            for pattern, stand_in in patterns:
                text = pattern.sub(partial(_put, kind=kind, stand_in=stand_in, edits=edits), text)
    if "phone" in kinds:
        text = _without_phones(text, region, edits)
    return Verdict(text=text, edits=dict(edits)) if edits else KEPT


def _put(
    match: re.Match[str], *, kind: str, stand_in: Callable[[str], str | None], edits: Counter[str]
) -> str:
    found = match[0]
    made = stand_in(found)
    if made is None or made == found:
        return found
    edits[kind] += 1
    return made


def _without_phones(text: str, region: str | None, edits: Counter[str]) -> str:
    try:
        from phonenumbers import Leniency, PhoneNumberMatcher
    except ImportError:
        raise UserError(
            "steps: personal_data: the package phonenumbers is not installed; pip install "
            "'hf_align[corpus]', or leave phone out of kinds."
        ) from None
    if region is None and "+" not in text:
        return text
    parts, end = [], 0
    for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID, max_tries=10_000):
        # No country has +999, so that this is no number of anyone.
        parts += [text[end : match.start], f"+999 {_number(match.raw_string, 10**8):08d}"]
        end = match.end
        edits["phone"] += 1
    return "".join([*parts, text[end:]])
