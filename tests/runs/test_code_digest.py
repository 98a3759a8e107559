from __future__ import annotations

import pytest

from hf_align.pipeline import state
from hf_align.preference import reference_store
from hf_align.runs.code_digest import code_digest
from hf_align.stages import PIPELINE_COMMANDS
from hf_align.training import ladder_cache


def test_code_that_has_moved_is_missed() -> None:
    """A pattern that matches nothing would let results of older code pass for those of today's."""
    with pytest.raises(ValueError, match=r"matches 'modeling/gone\.py'"):
        code_digest("types/*.py", "modeling/gone.py")


@pytest.mark.parametrize("module", [reference_store, ladder_cache, state])
def test_every_pattern_of_what_is_kept_matches(module) -> None:
    code_digest(*module._CODE)


@pytest.mark.parametrize("command", PIPELINE_COMMANDS)
def test_every_step_of_a_pipeline_depends_on_its_own_code(command: str) -> None:
    patterns = state._own_code(command)
    assert patterns and code_digest(*patterns)


def test_what_only_shows_results_does_not_count() -> None:
    code_digest("rl/*.py")
    with pytest.raises(ValueError, match=r"matches 'rl/report\.py'"):
        code_digest("rl/report.py")


def test_other_files_give_another_digest() -> None:
    one, other = code_digest("losses/*.py"), code_digest("losses/p*.py")
    assert one["hf_align"] != other["hf_align"]
    assert one["torch"] == other["torch"]
