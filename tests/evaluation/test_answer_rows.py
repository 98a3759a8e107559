"""What answers.jsonl keeps of replies, and the metrics of answers that call tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.data.chat.templates import resolve_chat_template
from hf_align.errors import UserError
from hf_align.evaluation.answer_rows import as_rows
from hf_align.evaluation.answering import Reply, check_task, generation_metrics, read_task
from hf_align.evaluation.recipe_entries import GenerationTask
from hf_align.evaluation.results import main_metric, table_lines
from hf_align.sampling.answers import Answer
from hf_align.statistics.calibration import wilson_interval

TOOL = {"name": "weather", "description": "Forecast.", "parameters": {"type": "object", "properties": {}}}
CALLS = ['<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>', "{}"]


def task(folder: Path, **options: Any) -> GenerationTask:
    """Two rows that call the tool and one that needs none."""
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    ends = [{"content": None, "tool_calls": [call]}] * 2 + [{"content": "Hello."}]
    rows = [
        {"messages": [{"role": "user", "content": "Oslo?"}, {"role": "assistant", **end}]} for end in ends
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return GenerationTask(str(path), **{"tools": [TOOL], **options})


def replies(given: GenerationTask, texts: list[str]) -> list[Reply]:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = resolve_chat_template("hermes")
    asked = read_task(given, tokenizer, system_prompt=None)
    pairs = zip(asked, texts, strict=True)
    return [Reply(each, (Answer(text, True, 4),), (text,), 0) for each, text in pairs]


def test_calls_count_where_the_reference_calls(tmp_path: Path) -> None:
    given = task(tmp_path)
    answers = replies(given, [CALLS[0], CALLS[0].replace("Oslo", "Rome"), "Hello."])
    assert "weather" in answers[0].asked.prompt.text and CALLS[0] == answers[0].asked.references[0]
    found, items = generation_metrics(given, answers, seed=1)
    assert (found["call_name"], found["call_exact"], found["no_call"], found["call_rows"]) == (1, 0.5, 1, 2)
    assert found["call_exact_interval"] == list(wilson_interval(0.5, 2))
    assert found["no_call_interval"] == list(wilson_interval(1, 1))
    np.testing.assert_array_equal(items, [[1, 1], [0, 1], [0, 0]])
    by_model = {"m": found}
    assert main_metric("generation", by_model) == "call_exact"
    table = "\n".join(table_lines({"generation": {"t": by_model}}, ["m"]))
    assert "calls exactly right" in table and "rows with a call" in table and "50.0 % [" in table


def test_rows_keep_both_sides_of_a_call(tmp_path: Path) -> None:
    given = task(tmp_path)
    calling, other, plain = as_rows("m", "t", replies(given, [CALLS[0], "No.", "Hello."]))
    oslo = [{"name": "weather", "arguments": {"city": "Oslo"}}]
    assert calling["calls"] == {"found": oslo, "wanted": oslo, "call_name": 1.0, "call_exact": 1.0}
    assert other["calls"]["found"] == [] and other["calls"]["call_exact"] == 0.0
    assert "calls" not in plain


def test_without_calls_there_is_no_metric_of_them(tmp_path: Path) -> None:
    given = task(tmp_path, skip_rows=2)
    found, _ = generation_metrics(given, replies(given, [CALLS[0]]), seed=1)
    assert not {"call_name", "call_exact", "no_call", "call_rows"} & set(found)


def test_tools_that_cannot_be_read_are_found_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tools: .*none\.json: no such file"):
        check_task(task(tmp_path, tools=str(tmp_path / "none.json")))
