"""Kept rows: judged again, never trusted, never left half-written."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.large_sources import any_row, content_of, prepare, write_rows

from hf_align.config import DatasetConfig
from hf_align.data.store import cache
from hf_align.data.store import datasets as stored
from hf_align.errors import UserError

pytestmark = pytest.mark.usefixtures("everything_is_large")


def test_limits_are_judged_again_for_kept_rows(tmp_path: Path, preparations: list[str]) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))
    prepare(path)
    with pytest.raises(UserError, match=r"malformed, more than max_malformed_share = 0\.01"):
        prepare(path, max_malformed_share=0.01)
    assert preparations == ["a.jsonl"]


def test_overlong_rows_are_an_error_each_time(tmp_path: Path, preparations: list[str]) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))
    messages = []
    for _ in range(2):
        with pytest.raises(UserError, match=rf"The longest has .* at {path}:8\. Set `max_length") as caught:
            prepare(path, overlong="error")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert preparations == ["a.jsonl"]


def _entry(folder: Path) -> Path:
    (manifest,) = folder.rglob("manifest.json")
    return manifest.parent


@pytest.mark.parametrize(
    "name", ["tokens.bin", "digests.bin", "place_ends.bin", "lengths.bin", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "empty"])
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, preparations: list[str], caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))
    expected = content_of(prepare(path))
    file = _entry(tmp_path / "home") / name
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0x80 if damage == "flip" else 0
    file.write_bytes({"cut": content[:-1], "flip": content, "remove": b"", "empty": b""}[damage])
    if damage == "remove":
        file.unlink()
    with caplog.at_level(logging.WARNING):
        assert content_of(prepare(path)) == expected
    assert "is damaged and is made again" in caplog.text
    assert preparations == ["a.jsonl"] * 2
    assert content_of(prepare(path)) == expected
    assert preparations == ["a.jsonl"] * 2


def test_data_that_change_while_they_are_read_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))
    real = stored.write_files

    def changing(pieces: Any, folder: Path) -> None:
        real(pieces, folder)
        with Path(path).open("a") as file:
            file.write(json.dumps(any_row(0)) + "\n")

    monkeypatch.setattr(stored, "write_files", changing)
    with caplog.at_level(logging.WARNING):
        prepared = prepare(path)
    assert "changed while they were read" in caplog.text
    assert len(list(prepared.train)) == prepared.report.train_rows
    assert list((tmp_path / "home").rglob("*.bin")) == []


def test_the_folder_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.default_folder() == tmp_path / "home" / "hf_align" / "datasets"
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.default_folder() == tmp_path / "xdg" / "hf_align" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.default_folder() == Path.home() / ".cache" / "hf_align" / "datasets"


def test_a_folder_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"dataset_cache_dir: .*file/x cannot be used"):
        prepare(path, dataset_cache_dir=str(tmp_path / "file" / "x"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        prepared = prepare(path)
    assert "not kept for the next run" in caplog.text
    assert len(list(prepared.train)) == prepared.report.train_rows


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "write_files", full)
    with pytest.raises(UserError, match=r"dataset_cache_dir: .* No space left on device"):
        prepare(path)
    assert [entry.name for entry in cache.default_folder().iterdir() if entry.is_dir()] == []
    with pytest.raises(UserError, match=r"No space left on device.* TMPDIR"):
        prepare(path, dataset_cache=False)


def test_without_the_cache_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(stored.tempfile, "tempdir", None)
    prepared = prepare(write_rows(tmp_path / "a.jsonl", range(60)), dataset_cache=False)
    assert len(list(prepared.train)) > 30
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "home").exists()


def test_duplicates_are_rows_with_the_same_ids() -> None:
    digests = np.array([[1, 1, 0, 1], [1, 2, 0, 2], [1, 1, 9, 9], [7, 7, 0, 0], [1, 1, 0, 1]], np.uint64)
    assert stored.count_duplicates(digests) == 2
    assert stored.count_duplicates(digests[:0]) == 0
    assert stored.count_duplicates(digests[[3, 1]]) == 0


def test_the_same_report_name_and_role_come_from_the_recipe(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", range(60))
    prepare(path, eval_split_size=1.0)
    again = prepare(path, eval_datasets=[DatasetConfig(path=path)], eval_split_size=1.0)
    assert [(source.name, source.role) for source in again.report.sources] == [
        (path, "train"),
        (path, "eval"),
    ]
    assert (
        replace(again.report.sources[1], role="train", lengths=again.report.sources[0].lengths)
        == (again.report.sources[0])
    )
