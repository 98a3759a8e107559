"""Links, anchors, pictures and file names of the pages lead somewhere."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
from helpers.documentation import PAGES, ROOT, anchors, links, read, spans
from helpers.documented_commands import FOLLOWED

LINKED = sorted({*PAGES, "CHANGELOG.md"})
FOLDERS = ("hf_align", "recipes", "tests", "scripts", "benchmarks", "data", "docs", "notebooks", ".ci")
PICTURES = (".png", ".svg")
_FILE = re.compile(r"[\w./-]+\.(py|yaml|sh|md|jinja|ipynb|jsonl)")
WRITTEN_BY_RUNS = {
    "README.md", "metrics.jsonl", "samples.jsonl", "best.jsonl", "rankings.jsonl", "pairs.jsonl",
    "held_out.jsonl", "answers.jsonl",
}  # fmt: skip
"""Files of run folders."""
EXAMPLES = {"a.jsonl", "RECIPE.yaml"}
"""Names that stand for the reader's own files."""
OTHER_PROJECTS = {"create_pretraining_data.py": "Google's script for BERT"}


@functools.cache
def _files() -> frozenset[str]:
    """Every file that belongs to the project, with the path inside it."""
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    files = {str(path.relative_to(ROOT)) for path in [*inside, *ROOT.glob("*")]}
    return frozenset(
        path for path in files if "__pycache__" not in path and "/.ipynb_checkpoints/" not in path
    )


@pytest.mark.parametrize("page", LINKED)
def test_links_and_anchors_resolve(page: str) -> None:
    for line, picture, target in links(read(page)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), f"{page}:{line}: {target}"
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), f"{page}:{line}: there is no {target}"
        assert file.is_relative_to(ROOT), f"{page}:{line}: {target} is outside the project"
        assert not picture or file.suffix in PICTURES, f"{page}:{line}: {target} is no picture"
        if anchor:
            found = anchors(file.read_text(encoding="utf-8"))
            assert anchor in found, f"{page}:{line}: {target}: the headings give {', '.join(sorted(found))}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in FOLLOWED])
def test_files_named_in_code_font_exist(page: str) -> None:
    known = _files()
    for line, text in spans(read(page)):
        for name in (word for word in text.split() if _FILE.fullmatch(word)):
            if name in OTHER_PROJECTS or name in EXAMPLES or Path(name).name in WRITTEN_BY_RUNS:
                continue
            # "modeling/loading.py" is inside hf_align, "quickstart.yaml" in the folder of the page's recipes.
            assert any(f"/{path}".endswith(f"/{name}") for path in known), (
                f"{page}:{line}: there is no {name}"
            )


def test_every_picture_is_shown_and_every_page_can_be_reached() -> None:
    shown = {
        ((ROOT / page).parent / target).resolve() for page in LINKED for _, _, target in links(read(page))
    }
    for path in [*ROOT.glob("docs/*.png"), *ROOT.glob("docs/*.svg")]:
        assert path in shown, f"{path.name} is shown nowhere"
    waiting, reached = [ROOT / "README.md"], set()
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        text = page.read_text(encoding="utf-8")
        waiting += [(page.parent / target.partition("#")[0]).resolve() for _, _, target in links(text)]
    assert {ROOT / page for page in PAGES} <= reached


def test_headings_become_anchors_as_on_github() -> None:
    text = (
        "# What `--replay` does: a look\n## A [link](x.md) here\n## Same\n## Same\n```\n# no heading\n```\n"
    )
    assert anchors(text) == {"what---replay-does-a-look", "a-link-here", "same", "same-1"}
    assert links("[a](b.md#c) `[no](link)` ![p](q.png)\n```\n[no](x)\n```\n") == [
        (1, False, "b.md#c"),
        (1, True, "q.png"),
    ]
