"""Fixtures for tests of sources that are large enough for worker processes and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_align.data import pipeline
from hf_align.data.store import datasets as stored
from hf_align.data.store import workers


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A few dozen rows are prepared as a million would be, with a cache of the test's own."""
    monkeypatch.setattr(stored, "SMALL_BYTES", 0)
    monkeypatch.setattr(workers, "ROWS_BEFORE_WORKERS", 40)
    monkeypatch.setattr(pipeline, "_ROWS_TOKENIZED_TOGETHER", 16)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def preparations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the sources that were read, converted and tokenised."""
    names: list[str] = []
    real = stored.open_source

    def noting(source: pipeline.DataSource, **options: Any) -> Any:
        names.append(Path(source.dataset.path).name)
        return real(source, **options)

    monkeypatch.setattr(stored, "open_source", noting)
    return names
