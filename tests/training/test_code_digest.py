from __future__ import annotations

import pytest

from hf_align.training import ladder_cache, pipeline_state, reference_store
from hf_align.training.code_digest import code_digest


def test_code_that_has_moved_is_missed() -> None:
    """A pattern that matches nothing would let results of older code pass for those of today's."""
    with pytest.raises(ValueError, match=r"matches 'modeling/gone\.py'"):
        code_digest("types/*.py", "modeling/gone.py")


@pytest.mark.parametrize("module", [reference_store, ladder_cache, pipeline_state])
def test_every_pattern_of_what_is_kept_matches(module) -> None:
    code_digest(*module._CODE)


def test_other_files_give_another_digest() -> None:
    one, other = code_digest("losses/*.py"), code_digest("losses/p*.py")
    assert one["hf_align"] != other["hf_align"]
    assert one["torch"] == other["torch"]
