"""Addresses of services: what is one, and that none carries a password into messages and logs."""

from __future__ import annotations

from urllib.parse import urlsplit

from hf_align.config.group import KeyProblem


def check_address(key: str, address: str, *, example: str) -> None:
    """Raise :class:`KeyProblem` where ``address`` is none of a service, or names a user in it.

    Python's HTTP client sends no ``user:password@`` of an address, and the address is in messages, so such
    a one is refused, without being repeated.
    """
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        parts, sound = None, False
    if "@" in (parts.netloc if parts and parts.netloc else address):
        raise KeyProblem(
            (key,), f"found an address with a user or password before '@', expected one such as {example}."
        )
    if not sound:
        raise KeyProblem(
            (key,),
            f"found '{address}', expected one that begins with http:// or https://, such as {example}.",
        )
