"""A folder appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hf_align.errors import UserError
from hf_align.runs.new_folder import check_new_folder, new_folder


def test_it_takes_its_place_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "a" / "out"
    with new_folder(place, key="output_dir") as folder:
        (folder / "x").write_text("1")
        (folder / "x").chmod(0o600)
        assert not place.exists()
    assert (place / "x").read_text() == "1" and [path.name for path in place.parent.iterdir()] == ["out"]
    mask = os.umask(0)
    os.umask(mask)
    assert (place / "x").stat().st_mode & 0o777 == 0o666 & ~mask


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out", key="output_dir") as folder:
        (folder / "x").write_text("1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty", key="output_dir") as folder:
        (folder / "x").write_text("1")
    with pytest.raises(UserError, match=r"output_dir: .*is not empty \(x\)"):
        check_new_folder(tmp_path / "empty", key="output_dir")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_new_folder(tmp_path / "file", key="output_dir")
    with pytest.raises(UserError, match="is not empty"), new_folder(tmp_path / "late", key="output_dir"):
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "other").write_text("")
    assert (tmp_path / "late" / "other").exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "out").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    with new_folder(tmp_path / "link", key="output_dir") as folder:
        (folder / "x").write_text("1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "out" / "x").read_text() == "1"


def test_the_working_directory_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with new_folder(".", key="output_dir") as folder:
        (folder / "x").write_text("1")
    assert Path("x").read_text() == "1" and [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_a_kill_left_goes_and_what_another_process_writes_stays(tmp_path: Path) -> None:
    (tmp_path / ".out.dead.part").mkdir()
    (tmp_path / ".other.dead.part").mkdir()
    with new_folder(tmp_path / "out", key="output_dir") as living:
        with new_folder(tmp_path / "out", key="output_dir"):
            assert living.is_dir() and not (tmp_path / ".out.dead.part").exists()
        (tmp_path / "out").rmdir()
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".other.dead.part"}
