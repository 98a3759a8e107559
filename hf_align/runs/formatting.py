"""Numbers as people read them: counts, shares, sizes, durations, losses.

Every function takes what a run file may hold (a number, None, a string such as ``"NaN"``, anything else)
and returns a short string; a missing or unusable value is an en dash. Nothing here knows about HTML.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

MISSING = "–"


def number(value: Any) -> float | None:
    """``value`` as a float, or None if it is not a number. ``"NaN"`` and ``"Infinity"`` count as numbers."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def finite(value: Any) -> float | None:
    """``value`` as a finite float, or None."""
    result = number(value)
    return result if result is not None and math.isfinite(result) else None


def count(value: Any) -> str:
    """A whole number with thousands separators: ``1,234,567``."""
    result = finite(value)
    return MISSING if result is None else f"{round(result):,}"


def short_count(value: Any) -> str:
    """A large number with a unit and three significant digits: ``4.88 M``, ``135 M``, ``7.62 B``."""
    result = finite(value)
    if result is None:
        return MISSING
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,600 rounds to 1,000 k, which reads better as 1 M.
        if abs(result) >= 0.9995 * limit:
            return f"{_three_digits(result / limit)} {unit}"
    return f"{result:,.0f}"


def share(value: Any) -> str:
    """A fraction of one as a percentage; small shares keep enough digits not to read as zero."""
    result = finite(value)
    if result is None:
        return MISSING
    percent = 100 * result
    if percent in (0, 100):
        return f"{percent:.0f} %"
    return f"{percent:.2g} %" if abs(percent) < 1 else f"{percent:.1f} %"


def size(value: Any) -> str:
    """Bytes in binary units: ``1.46 GiB``."""
    result = finite(value)
    if result is None:
        return MISSING
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(result) >= 0.9995 * 1024**power:
            return f"{_three_digits(result / 1024**power)} {unit}"
    return f"{result:.0f} B"


def duration(value: Any) -> str:
    """Seconds as ``8.4 s``, ``4 min 12 s`` or ``3 h 07 min``."""
    result = finite(value)
    if result is None or result < 0:
        return MISSING
    if result < 59.95:
        return f"{result:.1f} s"
    whole = round(result)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(result / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def loss(value: Any) -> str:
    """A loss in nats with four significant digits; NaN and infinities are named."""
    result = number(value)
    if result is None:
        return MISSING
    if math.isnan(result):
        return "NaN"
    if math.isinf(result):
        return "∞" if result > 0 else "−∞"
    return f"{result:.4g}"


def signed_loss(value: Any) -> str:
    """The same with a true minus sign, for quantities that are below zero as often as not."""
    return loss(value).replace("-", "−")


def between(limits: Any, form: Callable[[Any], str]) -> str:
    """Both ends of an interval as ``form`` writes them, ``0.12 to 0.34``; empty where there are not two."""
    if not isinstance(limits, list | tuple) or len(limits) != 2 or None in map(finite, limits):
        return ""
    return " to ".join(map(form, limits))


def rate(value: Any) -> str:
    """Something per second: ``1,830``, ``12.4``."""
    result = finite(value)
    if result is None:
        return MISSING
    return f"{result:,.0f}" if abs(result) >= 100 else f"{result:.3g}"


def plain(value: Any) -> str:
    """A recipe value as YAML-like text on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) and float(f"{value:g}") == value else repr(value)
    return str(value)


def _three_digits(value: float) -> str:
    """Three significant digits without an exponent: 4.88, 13.5, 135."""
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text
