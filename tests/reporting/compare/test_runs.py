"""Runs that are compared, under names that tell them apart."""

from __future__ import annotations

import json

from hf_align.reporting.compare.runs import read_runs


def test_names_that_collide(tmp_path):
    places = ["x/lora", "y/lora", "z/full", "z/named", "w/named"]
    for place in places:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        name = "trial" if "named" in place else None
        (folder / "run.json").write_text(json.dumps({"recipe": {"run_name": name}}))
    runs = read_runs([tmp_path / place for place in places])
    assert [one.name for one in runs] == ["x/lora", "y/lora", "full", "trial (z/named)", "trial (w/named)"]
    assert [one.mark for one in runs] == ["A", "B", "C", "D", "E"]
