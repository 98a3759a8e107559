"""The table of objectives: names, options that can be given, and those that make the objective what it is."""

from __future__ import annotations

import pytest
from helpers.pretraining_tokenizers import unigram_tokenizer, wordpiece_tokenizer

from hf_align.errors import UserError
from hf_align.pretraining.collators.table import OBJECTIVES, make_collator, objective

WITH_A_MASK_TOKEN = ("mlm", "wwm", "mlm_nsp", "sop", "span_mlm", "text_infilling")


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_can_be_made(name: str) -> None:
    chosen = objective(name)
    tokenizer = wordpiece_tokenizer() if name in WITH_A_MASK_TOKEN else unigram_tokenizer()
    collator = make_collator(name, tokenizer, seed=3)
    assert type(collator) is chosen.collator and collator.seed == 3
    for option, value in chosen.options.items():
        assert getattr(collator, option) == value and option not in chosen.option_names()


def test_mistakes_name_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'span_mlm'"):
        objective("spam_mlm")
    with pytest.raises(UserError, match=r"no option 'mlm_probabilty'.*Did you mean 'mlm_probability'"):
        make_collator("mlm", wordpiece_tokenizer(), mlm_probabilty=0.2)
    with pytest.raises(UserError, match="wwm has no option 'whole_words'"):
        make_collator("wwm", wordpiece_tokenizer(), whole_words=False)
