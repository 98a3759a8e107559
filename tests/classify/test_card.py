"""Page and card of a classifier."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.classification_records import classification_record

from hf_align.reporting.html import write_report
from hf_align.reporting.model_card import write_model_card


@pytest.fixture
def record() -> dict[str, Any]:
    return classification_record()


def test_page_and_card(record, tmp_path: Path):
    (tmp_path / "run.json").write_text(json.dumps(record))
    page = write_report(tmp_path).read_text()
    assert "Confusion matrix" in page and "The most confident mistakes" in page
    # Names and texts of the data are shown as they are, never as markup.
    assert "<b>food</b>" not in page and "&lt;b&gt;food&lt;/b&gt;" in page
    assert "<i>" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    card = write_model_card(tmp_path).read_text()
    assert "text-classification" in card and "AutoModelForSequenceClassification" in card
    assert r"\<b\>food\</b\>" in card and "| Accuracy |" in card
