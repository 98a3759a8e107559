"""The command from files to shards: counts that add up, any number of processes, killed and gone on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from hf_align.config.data import DatasetConfig
from hf_align.corpus import passes
from hf_align.corpus.command import main
from hf_align.corpus.documents import documents_of
from hf_align.corpus.shards import read_json
from hf_align.errors import UserError

STEPS = [
    "gopher_repetition",
    {"gopher_quality": {"min_words": 10}},
    "exact_duplicates",
    "minhash",
    "personal_data",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def prose(rng: random.Random) -> str:
    """Some sentences with made-up words, so that only what is planted repeats."""

    def word() -> str:
        return "".join(rng.choices(LETTERS, k=rng.randint(3, 8)))

    return " ".join(
        f"The {' '.join(word() for _ in range(6))} that {word()} of {word()} and {word()}." for _ in range(6)
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(3)
    rows: list[dict[str, Any]] = [{"text": prose(rng), "url": f"u{n}"} for n in range(40)]
    rows += [
        {"text": rows[2]["text"].replace(".", " !"), "url": "copy"},
        {"text": "buy now " * 50},
        {"text": "short"},
    ]
    rows += [{"text": f"{prose(rng)} Write to ada@mail.org."}, {"text": " "}]
    path = tmp_path_factory.mktemp("pages") / "pages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"text": 3}\n')
    return path


def arguments(pages: Path, output: Path, **options: Any) -> list[str]:
    given = {"output_dir": output, "shard_documents": 16, "max_malformed_share": 0.1, **options}
    steps = json.dumps(STEPS)
    return [
        "--datasets",
        str(pages),
        "--steps",
        steps,
        *(str(x) for k, v in given.items() for x in (f"--{k}", v)),
    ]


def kept(folder: Path) -> list[tuple[str, str]]:
    return [
        (document.columns["id"], document.text)
        for document in documents_of(DatasetConfig(str(folder / "data")))
    ]


@pytest.fixture(scope="module")
def first(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    main(arguments(pages, folder))
    return folder


def test_every_document_is_kept_or_removed_with_a_reason(first: Path) -> None:
    record = read_json(first / "run.json")
    steps = {step["name"]: step for step in record["corpus"]["steps"]}
    assert list(steps) == [
        "read",
        "gopher_repetition",
        "gopher_quality",
        "exact_duplicates",
        "minhash",
        "personal_data",
    ]
    assert steps["gopher_quality"]["reasons"]["words"]["documents"] == 1
    assert steps["exact_duplicates"]["reasons"]["exact_duplicate"]["documents"] == 1
    assert steps["personal_data"]["edits"] == {"email": 1}
    (source,) = record["corpus"]["sources"]
    assert (source["rows"], source["malformed"]) == (46, 2) and "pages.jsonl:46" in source["problems"][1]
    removed = [row for path in sorted((first / "removed").iterdir()) for row in _rows(path)]
    assert len(removed) + record["final_metrics"]["documents_kept"] == 44
    assert all(row["reason"] and row["step"] for row in removed)
    documents = kept(first)
    assert len(documents) == record["final_metrics"]["documents_kept"]
    assert not any("ada@mail.org" in text for _, text in documents)
    before = None
    for step in steps.values():
        assert before is None or step["before"] == before
        gone = sum(count["documents"] for count in step["reasons"].values())
        assert step["before"]["documents"] - gone == step["after"].get("documents", 0)
        before = step["after"]


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def test_other_columns_go_along(first: Path) -> None:
    rows = _rows(first / "data" / "000000.parquet")
    assert json.loads(rows[0]["metadata"]) == {"url": "u0"}


def test_the_report_and_the_card_say_what_happened(first: Path) -> None:
    page = (first / "report.html").read_text()
    assert "gopher_quality: words" in page and "What is left after each step" in page
    assert not (first / "work").exists()
    assert "documents left" in (first / "README.md").read_text()


def test_several_processes_and_other_formats_give_the_same(first: Path, pages: Path, tmp_path: Path) -> None:
    main(arguments(pages, tmp_path / "two", num_workers=2, output_format="jsonl"))
    assert kept(tmp_path / "two") == kept(first)
    assert all(path.suffix == ".jsonl" for path in (tmp_path / "two" / "data").iterdir())


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_run_that_stopped_goes_on(
    first: Path, pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    written: list[str] = []
    write = passes.write_json

    def stops(path: Path, content: Any) -> None:
        if len(written) == stop_at:
            written.append("stopped")
            raise KeyboardInterrupt
        write(path, content)
        written.append(f"{path.parent.name}/{path.name}")

    monkeypatch.setattr(passes, "write_json", stops)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(pages, tmp_path / "run"))
    main(arguments(pages, tmp_path / "run"))
    assert kept(tmp_path / "run") == kept(first)
    # What was there was not made again.
    assert len(set(written)) == len(written) and written[stop_at] == "stopped"


def test_a_dry_run_writes_no_document_and_measures_each_step_by_itself(pages: Path, tmp_path: Path) -> None:
    record = main(arguments(pages, tmp_path / "dry", dry_run="true"))
    assert not (tmp_path / "dry" / "data").exists() and not (tmp_path / "dry" / "removed").exists()
    assert {step["before"]["documents"] for step in record["corpus"]["steps"][1:]} == {44}


def test_other_steps_are_another_run(pages: Path, tmp_path: Path) -> None:
    given = arguments(pages, tmp_path / "run")
    main(given)
    main([*given[:3], '["c4"]', *given[4:]])
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("run.")]) == 1


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text("")
    with pytest.raises(UserError, match=r"none.jsonl"):
        main(["--datasets", str(path), "--steps", '["c4"]', "--output_dir", str(tmp_path / "run")])
