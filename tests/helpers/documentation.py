"""What the project's own pages contain: commands, code blocks, links, headings; Markdown, line by line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    [
        "README.md",
        "CONTRIBUTING.md",
        "data/README.md",
        *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
    ]
)
PROGRAMS = (
    "make", "hf-align", "accelerate", "torchrun", "python", "python3", "pip", "pytest", "git", "sbatch", "cd",
    "bash", "echo", "export", "source", "jupyter", "docker", "ruff", "mypy", "vllm",
)  # fmt: skip
SHELLS = ("sh", "bash", "shell", "console")

_FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\S*)")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*)")


@dataclass(frozen=True)
class Block:
    """A fenced or indented block: its language (empty where none is given), text, and first line."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command line of a page, as it stands there."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """Every fenced block, and every block that is indented by four spaces after an empty line."""
    return [block for block, _ in _parts(text) if block is not None]


def prose(text: str) -> str:
    """The page without its blocks; lines keep their numbers."""
    return "".join(line for _, lines in _parts(text) for line in lines)


def _parts(text: str) -> Iterator[tuple[Block | None, list[str]]]:
    """(block, empty lines in its place) or (None, lines of prose)."""
    lines = text.splitlines(keepends=True)
    position = 0
    after_blank = True
    while position < len(lines):
        start, fence = position, _FENCE.match(lines[position])
        if fence is not None:
            position += 1
            while position < len(lines) and not lines[position].strip().startswith(fence[1]):
                position += 1
            position += 1
            body = lines[start + 1 : position - 1]
            yield Block(fence[2], _dedent(body), start + 2), ["\n"] * (position - start)
        elif after_blank and lines[position].startswith("    "):
            while position < len(lines) and (
                lines[position].startswith("    ") or not lines[position].strip()
            ):
                position += 1
            yield Block("", _dedent(lines[start:position]), start + 1), ["\n"] * (position - start)
        else:
            position += 1
            yield None, [lines[start]]
        after_blank = not lines[position - 1].strip()


def _dedent(lines: list[str]) -> str:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(line[margin:] if line.strip() else "\n" for line in lines)


def spans(text: str) -> list[tuple[int, str]]:
    """(line, content) of every piece of prose in code font."""
    plain = prose(text)
    return [
        (plain.count("\n", 0, match.start()) + 1, " ".join(match[2].split()))
        for match in _SPAN.finditer(plain)
    ]


def commands(page: str, text: str | None = None) -> list[Command]:
    """Every command line of the page: in blocks, in their comments, and in code font within a sentence."""
    text = read(page) if text is None else text
    found = []
    for block in blocks(text):
        if block.language in ("", *SHELLS):
            found += [(block.line + offset, line) for offset, line in _block_commands(block)]
    found += [(line, span) for line, span in spans(text) if _is_command(span) and len(span.split()) > 1]
    return [Command(page, line, line_text) for line, line_text in sorted(found)]


def commands_of_recipe(path: Path) -> list[Command]:
    """The command lines in the comment that a recipe begins with."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), path.read_text("utf-8").splitlines())
    block = Block("", "\n".join(line[1:].strip() for line in comment), 1)
    name = str(path.relative_to(ROOT))
    return [Command(name, block.line + offset, line) for offset, line in _block_commands(block)]


def _block_commands(block: Block) -> Iterator[tuple[int, str]]:
    joined = ""
    start = 0
    for offset, line in enumerate(block.text.splitlines()):
        start = start if joined else offset
        joined += line.removeprefix("$ ")
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        command, comment = _without_comment(joined)
        joined = ""
        if command and (block.language in SHELLS or _is_command(command)):
            yield start, command
        # "hf-align … # make … is the same"
        if command and re.match(r"(make [a-z-]+( [A-Z]+=|$)|hf-align )", comment):
            yield start, comment


def _without_comment(line: str) -> tuple[str, str]:
    """(command, comment) of a line; a # inside quotes begins no comment."""
    quote = ""
    for position, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (position == 0 or line[position - 1].isspace()):
            return line[:position].strip(), line[position + 1 :].strip()
    return line.strip(), ""


def _is_command(text: str) -> bool:
    words = text.split()
    while words and re.fullmatch(r"[A-Z_][A-Z0-9_]*=\S*", words[0]):
        words = words[1:]
    return bool(words) and words[0] in PROGRAMS


def links(text: str) -> list[tuple[int, bool, str]]:
    """(line, whether it is a picture, target) of every link."""
    plain = _SPAN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), prose(text))
    return [
        (plain.count("\n", 0, match.start()) + 1, bool(match[1]), match[2]) for match in _LINK.finditer(plain)
    ]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    found: dict[str, int] = {}
    for line in prose(text).splitlines():
        heading = _HEADING.match(line)
        if heading is None:
            continue
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
        name = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
        count = found[name] = found.get(name, -1) + 1
        if count:
            found[f"{name}-{count}"] = 0
    return set(found)
