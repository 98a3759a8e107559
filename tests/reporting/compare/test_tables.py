"""What several runs have not in common: recipes, data, versions."""

from __future__ import annotations

from helpers.compared_runs import cells, page_of, run

from hf_align.reporting.compare.tables import data_table, environment_table, recipe_table


def test_recipe_differences_only():
    other = run(
        "B",
        recipe__lora_r=16,
        recipe__output_dir="runs/y",
        recipe__run_name="y",
        recipe__datasets=[{"path": "a.jsonl", "weight": 2.0, "split": "train"}],
    )
    common, partial = recipe_table([run("A"), other])
    assert [row["label"] for row in common] == ["datasets", "lora_r"] and partial == []
    assert cells(common, "lora_r") == ["8", "16"]
    assert cells(common, "datasets") == ["a.jsonl {weight: 1}", "a.jsonl {weight: 2}"]
    dpo = run("C", recipe__beta=0.1)
    common, partial = recipe_table([run("A"), dpo])
    assert common == [] and [row["label"] for row in partial] == ["beta"]
    assert cells(partial, "beta") == ["–", "0.1"]
    assert recipe_table([run("A"), run("B", recipe=None)]) == ([], [])


def test_secrets_in_recipes_stay_hidden():
    runs = [run("A", recipe__hub_token="hf_" + "a" * 24), run("B", recipe__hub_token=None)]
    page = page_of(runs)
    assert "hf_aaaa" not in page and "&lt;redacted&gt;" in page


def test_data_reports_in_short():
    fewer = run("B", data_report__fingerprint="f2", data_report__train_rows=7)
    fewer.record["data_report"]["sources"][0]["dropped"] = 2
    rows, notes = data_table([run("A"), fewer])
    assert cells(rows, "Training rows an epoch") == ["9", "7"]
    assert cells(rows, "Rows dropped") == ["0", "2"]
    assert notes == ["The runs did not have the same rows."]
    assert data_table([run("A"), run("B")])[1] == ["All runs had the same rows."]
    assert data_table([run("A", data_report=None), run("B", data_report=None)]) == ([], [])


def test_only_differing_versions_and_machines():
    assert environment_table([run("A"), run("B")]) == []
    rows = environment_table([run("A"), run("B", versions={"torch": "2.11"})])
    assert [row["label"] for row in rows] == ["torch"]
