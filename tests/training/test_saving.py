"""What a run leaves whose adapter is a change of weights: a whole model, and the adapter beside it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_align.training import saving
from hf_align.training.saving import save_with_adapter


def run(folder: Path, merges: bool) -> tuple[Any, dict[str, Any]]:
    noted: dict[str, Any] = {}
    made = SimpleNamespace(
        config=SimpleNamespace(merges=merges),
        training=SimpleNamespace(output_dir=str(folder)),
        machine=SimpleNamespace(main=True),
        record=SimpleNamespace(update=noted.update),
    )
    return made, noted


@pytest.mark.parametrize("merges", [True, False])
def test_where_the_weights_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merges: bool) -> None:
    saved: list[Path] = []

    def save_model(run: Any, trainer: Any, folder: Path | None = None) -> None:
        place = folder or tmp_path
        saved.append(place)
        place.mkdir(exist_ok=True)
        (place / "README.md").write_text("a form")

    monkeypatch.setattr(saving, "save_model", save_model)
    monkeypatch.setattr(saving.processes, "wait_for_everyone", lambda: None)
    made, noted = run(tmp_path, merges)
    asked: list[tuple[Path, Path]] = []

    def merge(folder: Path, adapter: Path) -> float:
        asked.append((folder, adapter))
        return 2e-6

    save_with_adapter(made, None, merge, metric="largest")  # type: ignore[arg-type]
    if merges:
        assert saved == [tmp_path / "adapter"] and asked == [(tmp_path, tmp_path / "adapter")]
        assert noted == {"merge": {"largest": 2e-6}} and not (tmp_path / "adapter" / "README.md").exists()
    else:
        assert saved == [tmp_path] and not asked and not noted
