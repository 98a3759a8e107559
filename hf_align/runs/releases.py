"""The releases of other libraries that the tests were run with, and what is installed instead.

setup.cfg says it, in one place: a library's range begins at its lower bound among the requirements and ends
where the extra ``tested`` says. A checkout reads setup.cfg itself; an installed package finds both in its own
metadata, which is made from that file. Imports none of the libraries.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import hf_align
from hf_align.runs.columns import aligned
from hf_align.runs.schema import Record

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TESTED = "tested"
"""The extra that ends the ranges."""
_EXTRAS = (TESTED, "dev")
"""TRL's lower bound is in ``dev``: only the tests need it."""
SAID = "HF_ALIGN_RELEASES_SAID"
"""Set in the environment of a process whose parent has said what :func:`notes` says."""


@dataclass(frozen=True)
class Library:
    """A library that the code needs or the tests compare with.

    ``installed``: its version here, or None. ``tested``: the range, such as ``>=5.17,<5.25``, or a lower
    bound alone. ``needed``: whether the commands load it, so that an old one breaks them.
    """

    name: str
    installed: str | None
    tested: str
    needed: bool

    @property
    def has_end(self) -> bool:
        return "<" in self.tested

    @property
    def place(self) -> Literal["older", "newer"] | None:
        """Where the installed version is if it is not in the range. A build (``+cpu``) changes nothing."""
        from packaging.specifiers import SpecifierSet
        from packaging.version import Version

        if self.installed is None or SpecifierSet(self.tested).contains(self.installed, prereleases=True):
            return None
        lowest = max(Version(one.version) for one in SpecifierSet(self.tested) if one.operator == ">=")
        return "older" if Version(self.installed) < lowest else "newer"


def libraries(package: Path = Path(hf_align.__file__).parent) -> list[Library]:
    """The needed libraries and those with a tested range, in the order of setup.cfg.

    ``package``: the folder of hf_align. Empty where neither setup.cfg lies beside it nor metadata is
    installed, as after copying the folder alone.
    """
    found = _requirements(package)
    needed = {one.name for one in found[""]}
    names = dict.fromkeys(one.name for extra in ("", TESTED) for one in found[extra])
    return [Library(name, _installed(name), _range(name, found), name in needed) for name in names]


def version_lines() -> list[str]:
    """What ``hf-align --version`` says: this version, and each library's beside its tested range."""
    first = f"hf-align {hf_align.__version__}"
    shown = [library for library in libraries() if library.has_end]
    if not shown:
        return [first, "tested releases: not known, since hf_align is neither installed nor in its checkout"]
    words = {None: "", "older": "older than tested", "newer": "newer than tested"}
    table = [("library", "installed", "tested", "")]
    table += [(one.name, one.installed or "-", one.tested, words[one.place]) for one in shown]
    return [first, "", *aligned(table)]


def record_entries() -> Record:
    """For run.json: ``tested_versions``, the range of each library, and ``untested_versions``.

    The latter has the libraries that are installed in another version, as ``older`` or ``newer``.
    """
    known = libraries()
    return Record(
        tested_versions={library.name: library.tested for library in known if library.has_end},
        untested_versions={library.name: library.place for library in known if library.place},
    )


def notes(environment: Mapping[str, str] = os.environ) -> list[str]:
    """What to say before a run: a line on libraries that are too old, and one on those not tested yet.

    Empty on all processes but the first, and in a process of a pipeline, which has said it.
    """
    if environment.get("RANK", "0") != "0" or environment.get(SAID):
        return []
    needed = [library for library in libraries() if library.needed]
    older = [library for library in needed if library.place == "older"]
    newer = [library for library in needed if library.place == "newer"]
    lines = []
    if older:
        found = ", ".join(f"{one.name} {one.installed}" for one in older)
        lines.append(
            f"warning: {found}: older than hf_align needs. Install what it was tested with: {_command(older)}"
        )
    if newer:
        found = ", ".join(f"{one.name} {one.installed}" for one in newer)
        lines.append(
            f"note: {found}: newer than hf_align was tested with. Should something fail: {_command(newer)}"
        )
    return lines


def _command(wanted: Iterable[Library]) -> str:
    return " ".join(["pip install", *(f"'{library.name}{library.tested}'" for library in wanted)])


def _requirements(package: Path) -> dict[str, list[Requirement]]:
    """Extra, or an empty text for the base -> requirements."""
    from packaging.requirements import Requirement

    found: dict[str, list[Requirement]] = {extra: [] for extra in ("", *_EXTRAS)}
    config = configparser.ConfigParser(interpolation=None)
    config.read(package.parent / "setup.cfg", encoding="utf-8")
    if config.get("metadata", "name", fallback=None) == "hf_align":
        blocks = {extra: config["options.extras_require"][extra] for extra in _EXTRAS}
        blocks[""] = config["options"]["install_requires"]
        for extra, block in blocks.items():
            found[extra] = [Requirement(line) for line in block.splitlines() if line.strip()]
        return found
    try:
        lines = metadata.requires("hf_align") or []
    except metadata.PackageNotFoundError:
        lines = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None:
            found[""].append(requirement)
            continue
        for extra in _EXTRAS:
            if marker.evaluate({"extra": extra}):
                found[extra].append(requirement)
    return found


def _range(name: str, found: Mapping[str, list[Requirement]]) -> str:
    """All that setup.cfg says of a library, the lower bound first."""
    parts = {
        str(part)
        for several in found.values()
        for one in several
        if one.name == name
        for part in one.specifier
    }
    return ",".join(sorted(parts, reverse=True))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
