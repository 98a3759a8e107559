"""A full disk: told from other errors, and explained with what is safe."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hf_align.runs.disk_full import explain, reason


class SafetensorError(Exception):
    """As safetensors names its own."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), "no space left on the disk"),
        (OSError(errno.EDQUOT, "x"), "the disk quota is used up"),
        (OSError(errno.ENOENT, "x"), ""),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "no space left on the disk"),
        (SafetensorError("os error 2"), ""),
        (RuntimeError("PytorchStreamWriter failed writing file data/1"), "not be written to its end"),
        (RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0"), "to its end"),
        (RuntimeError("something else"), ""),
        (OSError(errno.EMFILE, "Too many open files"), ""),
        (SafetensorError("I/O error: Too many open files (os error 24)"), ""),
    ],
)
def test_what_an_error_means(error: Exception, words: str) -> None:
    found = reason(error)
    assert words in found and bool(found) == bool(words)
    outer = ValueError("outer")
    outer.__cause__ = error
    assert reason(outer) == found


def test_a_file_that_could_not_be_opened_is_too_short_for_another_reason() -> None:
    short = RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0")
    short.__context__ = RuntimeError("open file failed with strerror: Too many open files")
    assert reason(short) == ""


def test_what_is_safe_is_said(tmp_path: Path) -> None:
    half = tmp_path / "checkpoint-4"
    half.mkdir()
    (half / "model.safetensors").write_text("half")
    error = OSError(errno.ENOSPC, "x", str(half / "model.safetensors"))
    told = explain(error, str(tmp_path), command="hf-align sft --resume")
    assert told is not None and not half.exists()
    assert f"writing {half}/model.safetensors failed: no space left" in str(told)
    assert "There is no complete checkpoint yet" in str(told)
    assert explain(ValueError("x"), str(tmp_path), command="c") is None
