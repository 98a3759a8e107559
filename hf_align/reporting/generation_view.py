"""A sampled prompt with its answers, as the templates show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_align.reporting.run_view import mapping
from hf_align.runs import formatting

Row = Mapping[str, Any]


def generation_view(item: Any) -> dict[str, Any]:
    """``source``, ``prompt`` and ``answers``: before and after training, and the reference.

    The name of an answer says its reward, where it has one.
    """
    item = mapping(item)
    answers = []
    for key, label in (("before", "Before"), ("after", "After")):
        reward = formatting.finite(item.get(f"{key}_reward"))
        name = label if reward is None else f"{label}, reward {formatting.loss(reward)}"
        answers.append(answer_view(name, item.get(key), item.get(f"{key}_stopped"), item.get("reference")))
    answers.append(reference_view(item.get("reference")))
    return {
        "source": str(item.get("source") or ""),
        "prompt": str(item.get("prompt") or ""),
        "answers": answers,
    }


def best_and_worst(entry: Any) -> dict[str, Any]:
    """The same for the best and the worst of several answers to a prompt."""
    item = mapping(entry)
    answers = []
    for key, label in (("best", "Best"), ("worst", "Worst")):
        name = f"{label}, reward {formatting.loss(item.get(f'{key}_reward'))}"
        answers.append(answer_view(name, item.get(key), item.get(f"{key}_stopped"), item.get("reference")))
    return {
        "source": str(item.get("source") or ""),
        "prompt": str(item.get("prompt") or ""),
        "answers": [*answers, reference_view(item.get("reference"))],
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


def side_by_side(item: Row, written: Mapping[str, Any]) -> dict[str, Any]:
    """One prompt of an evaluation with what each name has ``written``, as the templates show it."""
    return {
        "source": f"{item.get('task')}, {item.get('source')}",
        "prompt": str(item.get("prompt") or ""),
        "answers": [
            {
                "name": str(name),
                "note": "",
                "kind": "",
                "text": str(text or ""),
                "missing": "" if str(text or "").strip() else "empty",
            }
            for name, text in written.items()
        ],
    }
