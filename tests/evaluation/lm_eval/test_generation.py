"""How a task of lm-eval wants answers written."""

from __future__ import annotations

import pytest

from hf_align.errors import UserError
from hf_align.evaluation.lm_eval.generation import read_generation


def test_generation_settings():
    found = read_generation({"until": "\n", "max_gen_toks": 7, "do_sample": True, "top_p": 0.9, "top_k": 3})
    assert found.until == ("\n",)
    assert found.sampling == type(found.sampling)(7, 1.0, 0.9, 3)
    assert read_generation({"do_sample": True, "temperature": 0}).sampling.temperature == 0
    greedy = read_generation({"do_sample": False, "temperature": 0.7})
    assert greedy.sampling.temperature == 0 and greedy.sampling.max_new_tokens == 256
    with pytest.raises(UserError, match="generation with num_beams, repetition_penalty, which is not done"):
        read_generation({"num_beams": 4, "repetition_penalty": 1.1})
