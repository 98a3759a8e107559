"""The run record: atomic, strict JSON, no secrets, and helpful errors where it cannot be read."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.errors import UserError
from hf_align.runs import record
from hf_align.runs.record import REDACTED, collect_machine, collect_versions, read_run, redact, write_json


def strict(path: Path):
    def refuse(name: str):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_numbers_of_all_kinds_become_strict_json(tmp_path):
    @dataclasses.dataclass
    class Point:
        x: int

    write_json(
        tmp_path / "a.json",
        {
            "nan": math.nan,
            "minus": -math.inf,
            "numpy": np.float32(0.5),
            "array": np.arange(2),
            "tensor": torch.tensor(3),
            "path": Path("a") / "b",
            "point": Point(1),
            "set": {"b", "a"},
            3: (1, 2),
        },
    )
    assert strict(tmp_path / "a.json") == {
        "nan": "NaN",
        "minus": "-Infinity",
        "numpy": 0.5,
        "array": [0, 1],
        "tensor": 3,
        "path": os.path.join("a", "b"),
        "point": {"x": 1},
        "set": ["a", "b"],
        "3": [1, 2],
    }


def test_text_survives_and_lone_surrogates_do_too(tmp_path):
    write_json(tmp_path / "a.json", {"text": "中文 🙂 \ud83d \x00"})
    assert strict(tmp_path / "a.json") == {"text": "中文 🙂 \ud83d \x00"}
    assert "中文 🙂".encode() in (tmp_path / "a.json").read_bytes()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3)))
@settings(deadline=None, max_examples=40)
def test_any_text_reads_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    write_json(path, {"value": value})
    assert strict(path) == {"value": value}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="object has no JSON form"):
        write_json(path, {"a": object()})

    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr(record.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert strict(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hub_token", "abc"),
        ("token", "abc"),
        ("WANDB_API_KEY", "0123"),
        ("api-key", "x"),
        ("password", 12345),
        ("aws_secret_access_key", "x"),
        ("client_secret", "x"),
    ],
)
def test_values_of_secret_keys_are_hidden(key, value):
    assert redact({"outer": [{key: value}]}) == {"outer": [{key: REDACTED}]}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("hf_" + "a1B2" * 8, REDACTED),
        ("use ghp_" + "x9" * 18 + " here", f"use {REDACTED} here"),
        ("sk-proj-" + "a1" * 12, REDACTED),
        ("AKIA" + "ABCD1234" * 2, REDACTED),
        ("https://me:pa55@example.org/data.jsonl", f"https://{REDACTED}@example.org/data.jsonl"),
        ("https://example.org/d?X-Amz-Signature=abc&b=1", f"https://example.org/d?{REDACTED}&b=1"),
    ],
)
def test_known_forms_of_secrets_are_hidden_anywhere(text, kept):
    assert redact({"system_prompt": text}) == {"system_prompt": kept}


def test_what_only_sounds_like_a_secret_is_kept():
    harmless = {
        "max_tokens_per_batch": 4096,
        "sample_max_new_tokens": 64,
        "tokenizer_name_or_path": "models/x",
        "eos_token": "</s>",
        "model_revision": "0123456789abcdef0123456789abcdef01234567",
        "task": "risk-assessment-of-a-long-list 2024",
        "hub_token": None,
        "tokens": [["a", True]],
        "keys": "a",
    }
    assert redact(harmless) == harmless


def test_nothing_secret_reaches_the_disk(tmp_path):
    secret = "hf_" + "Z9" * 16
    write_json(tmp_path / "run.json", {"recipe": {"hub_token": "plain"}, "env": [f"HF={secret}"]})
    content = (tmp_path / "run.json").read_text()
    assert secret not in content
    assert "plain" not in content


def test_versions_are_those_of_the_installed_packages():
    versions = collect_versions()
    assert versions["torch"] == importlib.metadata.version("torch")
    assert versions["python"].count(".") == 2
    assert "hf_align" in versions


def test_machine_facts():
    machine = collect_machine()
    assert machine["cpu"]
    assert 1 <= machine["cores"] <= (os.cpu_count() or 1)
    assert machine["memory_bytes"] > 2**20
    assert (machine["accelerator"] is None) == (
        not torch.cuda.is_available() and not torch.backends.mps.is_available()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "run.json is missing"),
        (b'{"a": 1,\n "b" 2}', r"run\.json:2: not valid JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_unreadable_records_are_user_errors(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_run(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_missing_folder_a_file_and_a_parent_of_runs(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="this is a file"):
        read_run(tmp_path / "file")
    write_json(tmp_path / "sft" / "run.json", {})
    with pytest.raises(UserError, match="These folders inside it have one: sft"):
        read_run(tmp_path)
