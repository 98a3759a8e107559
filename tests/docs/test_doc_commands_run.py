"""The command lines of the pages are carried out on tiny models and few rows (documented_workspace.py)."""

from __future__ import annotations

import re
import shutil

import pytest
from helpers.documentation import PAGES, Command, commands
from helpers.documented_commands import FOLLOWED, NOT_STARTED
from helpers.documented_workspace import Workspace

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

NOT_CARRIED_OUT = {
    r"make (test|test-all|test-newest|test-oldest|lint|format)\b.*": "would run the tests in the tests",
    r"make install": "installs",
    r"make model": "installs a package to take the model from",
    r"make notebooks\b.*": "run by the tests of the notebooks",
    r"python scripts/build_notebooks\.py": "writes into the project; has tests of its own",
    r"make pipeline\b.*|hf-align pipeline --config \S+": "every stage; see tests/pipeline/test_command.py",
    r"make docs": "built by test_doc_api.py",
    r"make bench-.*": "takes minutes and the real model; what it measures has tests of its own",
    r".*vllm.*": "needs a vLLM server; tests/rl/vllm/test_rollout.py has a stand-in",
    r"make test-kill": "takes minutes; run before a release",
    r"make .* ACCELERATE=.*": "FSDP and DeepSpeed need GPUs; their files are read by tests/test_recipes.py",
    r"sbatch .*": "needs SLURM",
    r"pip install .*": "installs",
    r"python data/.*": "run by tests/test_project_*.py",
}
"""Commands that are only read (test_doc_commands.py), each with the reason."""


def carried_out(page: str) -> list[Command]:
    """The commands of a page that are carried out, each once."""
    found = {command.text: command for command in commands(page) if command.text not in NOT_STARTED}
    return [
        command
        for command in found.values()
        if not any(re.fullmatch(pattern, command.text) for pattern in NOT_CARRIED_OUT)
    ]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page for page in PAGES if page not in FOLLOWED and carried_out(page)])
def test_the_commands_of_a_page(page: str, workspace: Workspace) -> None:
    for command in carried_out(page):
        try:
            workspace.carry_out_line(command.text)
        except BaseException as error:
            raise AssertionError(f"{command}: {error}") from error


def test_a_first_look_at_the_rows(workspace: Workspace) -> None:
    """The quickest of them, with the other tests: inspect needs no weights."""
    workspace.carry_out_line("make inspect RECIPE=…")
    assert (workspace.folder / "runs" / "quickstart-inspect.html").is_file()


def test_the_table_holds_nothing_that_is_not_there() -> None:
    texts = [command.text for page in PAGES for command in commands(page)]
    for pattern in NOT_CARRIED_OUT:
        assert any(re.fullmatch(pattern, text) for text in texts), pattern
