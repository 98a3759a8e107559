"""The columns of a row that no format names: obeyed, refused with the reason, or counted as ignored.

``tools`` and ``chat_template_kwargs`` go to the chat template, ``weight`` says what a row counts. Images and
sound, and the labels of unpaired feedback, would be lost in silence, and are refused. Whatever else a row has
is counted, and the data report lists it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from hf_align.data.conversion.turn_fields import MEDIA_KEYS, TURN_KEYS, refuse_media, tools_of
from hf_align.data.reading.raw import MalformedRow, kind_of, printable
from hf_align.types import Comparison, Example, LabelledAnswer

TEMPLATE_COLUMNS = ("tools", "chat_template_kwargs")
UNPAIRED = "unpaired feedback"
_KNOWN = frozenset({*TEMPLATE_COLUMNS, *MEDIA_KEYS, "weight"})
_RESERVED = frozenset(
    {
        *("conversation", "messages", "documents", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors"),
        *("return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
    }
)
_SHOWN_NAME = 60
_Conversations = Example | Comparison | LabelledAnswer


def with_template_columns(example: Any, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """The example with what its row and the recipe (``defaults``) hand to the chat template. An empty list
    of tools in a row leaves those of the recipe out.

    Raises MalformedRow for media, weights that the row cannot have, and tools beside text that no template
    touches.
    """
    refuse_media(values)
    weight = _weight(values.get("weight"))
    if isinstance(example, Example):
        example = replace(example, weight=weight)
    else:
        refuse_weight(weight)
    options = {**defaults, **_keywords(values.get("chat_template_kwargs"))}
    if values.get("tools") not in (None, ""):
        options["tools"] = tools_of(values["tools"])
    tools = options.get("tools")
    if tools is None:
        options.pop("tools", None)
    turns = getattr(example, example.turns_in, None) if isinstance(example, _Conversations) else None
    if not isinstance(turns, tuple):
        if tools is not None:
            raise MalformedRow("tools: plain text has no chat template that could write them")
        return example
    return replace(example, template=json.dumps(options, ensure_ascii=False)) if options else example


def _keywords(value: Any) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise MalformedRow("chat_template_kwargs: expected a JSON object, found other text") from None
    if not isinstance(value, Mapping):
        raise MalformedRow(f"chat_template_kwargs: expected an object, found {kind_of(value)}")
    wrong = next((name for name in value if name in _RESERVED or not str(name).isidentifier()), None)
    if wrong is not None:
        raise MalformedRow(f"chat_template_kwargs: {ascii(wrong)[:40]} is no keyword of a template")
    return {str(name): item for name, item in value.items() if item is not None}


def number_of(value: Any) -> float | None:
    """A weight as a number, also from a cell of a table; None for what means something else."""
    if isinstance(value, bool | int | float):
        return float(value)
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _weight(value: Any) -> float:
    """The weight of a row: 1 where it has none, or a column of another meaning."""
    number = number_of(value)
    if number is not None and not (math.isfinite(number) and number >= 0):
        raise MalformedRow(f"weight: found {number:g}; expected a number of at least 0", "weight")
    return 1.0 if number is None else number


def refuse_weight(weight: float) -> None:
    """Raise MalformedRow where a row counts more or less than others and cannot."""
    if weight != 1:
        raise MalformedRow(
            f"weight: found {weight:g}; here every row counts 1. Leave the row out, give its turns weight 0 "
            "or 1, or take the column out",
            "weight",
        )


def refuse_unpaired(values: Mapping[str, Any]) -> None:
    """Raise MalformedRow for an answer that a boolean label says is good or bad: both would be trained."""
    label = values.get("label")
    if isinstance(label, bool) or (isinstance(label, str) and label.lower() in ("true", "false")):
        raise MalformedRow(
            f"label: found {str(label).lower()}: this is unpaired feedback, of which fine-tuning would learn "
            "the rejected answers as well; take hf-align kto, or keep the rows with label true without the "
            "column",
            UNPAIRED,
        )


def unread(values: Mapping[str, Any], read: Collection[str]) -> Iterator[str]:
    """The names of what is in the row and is not read: columns, and ``column[].key`` for keys of turns."""
    for column, value in values.items():
        if column in _KNOWN and (column != "weight" or number_of(value) is not None):
            continue
        if column not in read:
            if value is not None:
                yield printable(str(column))[:_SHOWN_NAME]
        elif isinstance(value, list):
            keys = {key for turn in value if isinstance(turn, dict) for key in turn if turn[key] is not None}
            for key in sorted(map(str, keys - TURN_KEYS)):
                yield f"{printable(str(column))}[].{printable(key)}"[:_SHOWN_NAME]
