"""Addresses of services: what is one, and a password that is never repeated."""

from __future__ import annotations

import pytest

from hf_align.config.addresses import check_address
from hf_align.config.group import KeyProblem

EXAMPLE = "http://localhost:8000"


@pytest.mark.parametrize("address", [EXAMPLE, "https://host/v1", "http://127.0.0.1:1", "http://[::1]:80/x"])
def test_addresses(address: str) -> None:
    check_address("judge_url", address, example=EXAMPLE)


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://host", "http://", "http://host:port", "http://host:0"]
)
def test_what_is_none(address: str) -> None:
    with pytest.raises(KeyProblem, match="expected one that begins with http:// or https://") as caught:
        check_address("judge_url", address, example=EXAMPLE)
    assert caught.value.keys == ("judge_url",)


@pytest.mark.parametrize("address", ["http://me:secret@host", "https://secret@host:1", "me:secret@host:x"])
def test_a_password_is_not_repeated(address: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        check_address("judge_url", address, example=EXAMPLE)
    assert "secret" not in str(caught.value)
