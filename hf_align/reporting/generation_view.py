"""A sampled prompt with its answers, as the templates show it."""

from __future__ import annotations

from typing import Any

from hf_align.reporting.run_view import mapping


def generation_view(item: Any) -> dict[str, Any]:
    """``source``, ``prompt`` and ``answers``: before and after training, and the reference."""
    record = mapping(item)
    answers = [
        answer_view(label, record.get(key), record.get(f"{key}_stopped"), record.get("reference"))
        for key, label in (("before", "Before"), ("after", "After"))
    ]
    answers.append(reference_view(record.get("reference")))
    return {
        "source": str(record.get("source") or ""),
        "prompt": str(record.get("prompt") or ""),
        "answers": answers,
    }


def answer_view(name: str, text: Any, stopped: Any, reference: Any) -> dict[str, str]:
    """``name``, ``text`` or ``missing`` (why there is none), and a ``note`` of the ``kind`` cut or same."""
    answer = {"name": name, "text": "", "missing": "", "kind": "", "note": ""}
    if text is None:
        answer["missing"] = "not generated"
        return answer
    answer["text"] = str(text)
    answer["missing"] = "" if str(text) else "an empty answer"
    same = isinstance(reference, str) and str(text).strip() == reference.strip()
    # Whether it stopped comes last: an answer that never ends is the defect to look for.
    note = ["equals the reference"] if same else []
    note += ["stopped by itself" if stopped else "cut off"] if isinstance(stopped, bool) else []
    answer["note"] = ", ".join(note)
    answer["kind"] = "cut" if stopped is False else "same" if same else ""
    return answer


def reference_view(reference: Any) -> dict[str, str]:
    """The same for the answer that the data hold."""
    missing = "" if reference else "none" if reference is None else "an empty reference"
    return {"name": "Reference", "text": str(reference or ""), "missing": missing, "kind": "", "note": ""}
