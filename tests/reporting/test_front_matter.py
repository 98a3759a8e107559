"""The head of a model card, and the note on a base that nobody else has."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_align.reporting.front_matter import front_matter, is_local


@pytest.mark.parametrize(
    ("base", "noted"), [("org/model", False), ("gpt2", False), ("./runs/model", True), (None, False)]
)
def test_a_folder_as_base_is_noted(base: str | None, noted: bool) -> None:
    values = {"base_model": base, "tags": ["hf_align"]} if base else {"tags": ["hf_align"]}
    text = front_matter(values)
    assert text.startswith("---\n") and text.endswith("\n---")
    assert ("put its hub id here" in text) is noted
    assert yaml.safe_load(text.strip("-\n")) == values


def test_a_name_of_the_hub_that_is_a_folder_here_is_local(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_local("org/model")
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert is_local("org/model")
