"""Entries of the cache: made once, read by others, remade when damaged, never there by half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_align.data.store.cache import MANIFEST, default_folder, holds, open_or_make, writable_folder
from hf_align.errors import UserError


class Maker:
    """Writes its text and counts how often it is asked to."""

    def __init__(self, text: str = "rows", valid: bool = True) -> None:
        self.text, self.valid, self.made = text, valid, 0

    def open(self, folder: Path, key: str = "k") -> str:
        return open_or_make(
            folder,
            key,
            make=self._make,
            still_valid=lambda: self.valid,
            read=lambda entry, facts: (entry / "rows.txt").read_text() + str(facts["n"]),
        )

    def _make(self, part: Path) -> dict[str, int]:
        self.made += 1
        (part / "rows.txt").write_text(self.text)
        return {"n": 3}


def test_made_once_and_then_read(tmp_path: Path) -> None:
    maker = Maker()
    assert not holds(tmp_path, "k")
    assert [maker.open(tmp_path) for _ in range(2)] == ["rows3", "rows3"]
    assert maker.made == 1 and holds(tmp_path, "k") and not holds(tmp_path, "other")
    assert {path.name for path in tmp_path.iterdir()} == {"k", ".k.lock"}


@pytest.mark.parametrize("harm", ["other content", "other size", "no manifest", "broken manifest", "no file"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    maker.open(tmp_path)
    entry = tmp_path / "k"
    if harm == "no file":
        (entry / "rows.txt").unlink()
    elif harm.startswith("other"):
        (entry / "rows.txt").write_text("sowr" if harm == "other content" else "ro")
    elif harm == "no manifest":
        (entry / MANIFEST).unlink()
    else:
        (entry / MANIFEST).write_text(json.dumps(["files"]))
    assert not holds(tmp_path, "k")
    assert maker.open(tmp_path) == "rows3" and maker.made == 2
    assert "is damaged and is made again" in caplog.text


def test_data_that_changed_meanwhile_are_read_and_not_kept(tmp_path: Path) -> None:
    maker = Maker(valid=False)
    assert maker.open(tmp_path) == "rows3" and not holds(tmp_path, "k")
    assert [path.name for path in tmp_path.iterdir()] == [".k.lock"]


def test_what_a_dead_maker_left_is_removed_and_a_failing_one_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".k.part-1").mkdir()
    (tmp_path / ".k.part-1" / "rows.txt").write_text("half")

    def fail(part: Path) -> dict[str, int]:
        (part / "rows.txt").write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot be written to .*: No space left on device"):
        open_or_make(tmp_path, "k", make=fail, still_valid=lambda: True, read=lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == [".k.lock"]


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "hf_align" / "datasets"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_folder() == Path("/x/hf_align/datasets")
    monkeypatch.setenv("HF_HOME", "~/home")
    assert default_folder() == tmp_path / "home" / "hf_align" / "datasets"
    assert writable_folder("~/named") == tmp_path / "named"


def test_a_file_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"dataset_cache_dir: .* cannot be used: .*Name another folder"):
        writable_folder(str(tmp_path / "file"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert writable_folder(None, what="log-probabilities") is None
    assert "Log-probabilities are not kept for the next run" in caplog.text


def test_what_killed_makers_of_other_entries_left_goes_and_the_rest_stays(
    tmp_path: Path,
) -> None:
    fcntl = pytest.importorskip("fcntl")
    for name in (".dead.part-1", ".living.part-2"):
        (tmp_path / name).mkdir()
    with (tmp_path / ".living.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Maker().open(tmp_path)
    assert not (tmp_path / ".dead.part-1").exists() and (tmp_path / ".living.part-2").exists()
