"""Say whether this interpreter's environment can run hf_align: exit status 0 if it can, 1 if not.

    python scripts/check_environment.py [--extra NAME ...] [--only PACKAGE] [--constraints oldest|newest]

Reads the requirements from setup.cfg and the installed versions from package metadata, so that it imports
nothing heavy and answers in well under a second. It also wants hf_align to be this very checkout. With
--only it looks at one requirement and prints nothing. With --constraints it prints what pip has to hold fast
in an environment of the oldest releases (each lower bound, of the base and of dev) or of the newest: PyTorch
as it is installed, in both. It installs nothing.
"""

from __future__ import annotations

import argparse
import configparser
import importlib.util
import sys
from importlib import metadata
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ImportError:  # a new environment has pip and nothing else
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent


def requirements(extras: list[str]) -> list[Requirement]:
    """The requirements of setup.cfg: the base ones and those of ``extras``."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += config["options.extras_require"][extra].splitlines()
    return [Requirement(line) for line in lines if line.strip()]


def constraints(releases: str) -> list[str]:
    """Lines for pip's --constraint in an environment of the ``releases``, oldest or newest.

    Raises SystemExit for a requirement whose lower bound cannot be told.
    """
    lines = [f"torch=={metadata.version('torch')}"]
    if releases == "newest":
        return lines
    for requirement in requirements(["dev"]):
        bounds = [part.version for part in requirement.specifier if part.operator == ">="]
        if len(bounds) != 1:
            raise SystemExit(
                f"setup.cfg: {requirement}: expected one lower bound, such as {requirement.name}>=1.0"
            )
        if requirement.name == "torch":
            print(f"  {lines[0]} stands in for {requirement}; TORCH=… installs another", file=sys.stderr)
        else:
            lines.append(f"{requirement.name}=={bounds[0]}")
    return lines


def problem_with(requirement: Requirement) -> str | None:
    """What is wrong with the installed version of one requirement, or None."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement} is wanted, {version} is installed"


def problem_with_package() -> str | None:
    """Why ``import hf_align`` would not give this checkout from any other folder, or None."""
    # This folder is first on sys.path only for the script itself, and holds no hf_align.
    spec = importlib.util.find_spec("hf_align")
    if spec is None or spec.origin is None:
        return "hf_align is missing"
    if Path(spec.origin).resolve() != ROOT / "hf_align" / "__init__.py":
        return f"hf_align is installed from {Path(spec.origin).parent}, not from {ROOT}"
    return None


def main(argv: list[str] | None = None) -> int:
    """Print one line for each problem and return the exit status."""
    parser = argparse.ArgumentParser(description="Check that this environment can run hf_align.")
    parser.add_argument("--extra", action="append", default=[], help="also check an extra of setup.cfg")
    parser.add_argument("--only", help="check this one requirement and print nothing")
    parser.add_argument("--constraints", choices=["oldest", "newest"], help="print constraints for pip")
    options = parser.parse_args(argv)
    if options.constraints:
        print("\n".join(constraints(options.constraints)))
        return 0
    wanted = requirements(options.extra)
    if options.only:
        return int(any(problem_with(item) for item in wanted if item.name == options.only))
    problems = [text for item in wanted if (text := problem_with(item))]
    if (text := problem_with_package()) is not None:
        problems.append(text)
    for text in problems:
        print(f"  {text}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
