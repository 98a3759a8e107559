"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from hf_align.runs import formatting as f


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        (f.count, 1234567, "1,234,567"),
        (f.count, None, "–"),
        (f.count, "many", "–"),
        (f.count, True, "–"),
        (f.short_count, 4_884_480, "4.88 M"),
        (f.short_count, 134_515_008, "135 M"),
        (f.short_count, 999_700, "1 M"),
        (f.short_count, 7_615_616_512, "7.62 B"),
        (f.short_count, 42, "42"),
        (f.share, 0.0351, "3.5 %"),
        (f.share, 0.00042, "0.042 %"),
        (f.share, 0, "0 %"),
        (f.share, 1, "100 %"),
        (f.size, 3 * 2**29, "1.5 GiB"),
        (f.size, 2**20, "1 MiB"),
        (f.size, 12, "12 B"),
        (f.duration, 8.41, "8.4 s"),
        (f.duration, 59.96, "1 min 00 s"),
        (f.duration, 231.4, "3 min 51 s"),
        (f.duration, 11220, "3 h 07 min"),
        (f.duration, -1, "–"),
        (f.loss, 0.312749, "0.3127"),
        (f.loss, "NaN", "NaN"),
        (f.loss, math.inf, "∞"),
        (f.loss, "-Infinity", "−∞"),
        (f.rate, 1834.2, "1,834"),
        (f.rate, 12.44, "12.4"),
        (f.plain, 2e-05, "2e-05"),
        (f.plain, 0.1234567891, "0.1234567891"),
        (f.plain, None, "null"),
        (f.plain, True, "true"),
        (f.plain, ["q_proj", 1], "[q_proj, 1]"),
        (f.plain, {"a": None}, "{a: null}"),
    ],
)
def test_forms(form, value, expected):
    assert form(value) == expected


def test_huge_integers_are_no_numbers_rather_than_an_error():
    assert f.count(10**400) == "–"
