"""Writing with a side network: its keys and values go with those of the backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_ladders import laddered, tiny_ladder
from helpers.tiny_models import tiny_model

from hf_align.adapters.ladder.generation import new_cache
from hf_align.modeling.attention.packing_probe import enable_segment_attention
from hf_align.modeling.growing_cache import cache_keyword
from hf_align.sampling.continuations import sample_continuations
from hf_align.sampling.options import Sampling

IDS = torch.arange(5, 17)[None]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "mistral", "gemma3", "bloom", "gpt_neo"])
@pytest.mark.parametrize("packed", [False, True])
def test_sampling_with_a_cache_takes_the_tokens_of_whole_forward_passes(family: str, packed: bool) -> None:
    base = tiny_model(family)
    if packed and not enable_segment_attention(base):
        pytest.skip("not packed")
    model = laddered(base, every=2).eval()
    prompts = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17]]
    greedy = Sampling(max_new_tokens=8, temperature=0)
    found = sample_continuations(model, prompts, greedy, stop_ids=[], pad_token_id=0, samples=2)
    assert len(found) == 6
    for continuation in found:
        ids = list(prompts[continuation.prompt])
        for token, logp in zip(continuation.tokens.tolist(), continuation.logps, strict=True):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            assert torch.log_softmax(logits, dim=-1)[token].item() == pytest.approx(logp, abs=2e-3)
            assert logits[token] >= logits.max() - 2e-3
            ids.append(token)


def test_generate_reorders_and_crops_both_caches() -> None:
    model = tiny_ladder().eval()
    keyword = cache_keyword(model)
    options: dict[str, Any] = {"max_new_tokens": 8, "num_beams": 3, "pad_token_id": 0, "eos_token_id": None}
    with_cache = model.generate(input_ids=IDS, do_sample=False, **options)
    without = model.generate(input_ids=IDS, do_sample=False, use_cache=False, **options)
    assert torch.equal(with_cache, without)
    cache = new_cache(model.config)
    output = model(input_ids=IDS, **{keyword: cache}, use_cache=True)
    cache.crop(-6)
    again = model(input_ids=IDS[:, 6:], **{keyword: cache}, use_cache=True)
    torch.testing.assert_close(again.logits, output.logits[:, 6:], rtol=1e-4, atol=1e-4)


def test_a_cache_of_the_base_alone_is_refused() -> None:
    model = tiny_ladder().eval()
    keyword = cache_keyword(model)
    cache = new_cache(model.config)
    with model.disable_adapter():
        model(input_ids=IDS, **{keyword: cache}, use_cache=True)
    with pytest.raises(ValueError, match="without the ladder"):
        model(input_ids=IDS[:, :1], **{keyword: cache}, use_cache=True)
