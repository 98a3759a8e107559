"""Which way of continuing sequences together is right for a model: found by trying, once for each model.

Caches differ between families: some keep states in the model itself, rearrange values between cache and
attention, or count padding as if it were text, and none of them says so. So the fastest way is tried on a few
tokens, two prompts of unequal length with two samples each, of which one leaves; its logits must be those of
a full pass over each sequence alone. Where they are not, slower ways are tried. What this leaves out: the
ways themselves (``batch``).
"""

from __future__ import annotations

import contextlib
import logging
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hf_align.errors import UserError
from hf_align.modeling.growing_cache import growing_cache, grows_everywhere
from hf_align.modeling.positions import count_positions, longrope_bound
from hf_align.modeling.quantization import independent_rows
from hf_align.modeling.virtual_tokens import PromptedModel, count_virtual_tokens
from hf_align.sampling.batch import SequenceBatch, Way
from hf_align.sampling.decoding import DecodingSupport, decoding
from hf_align.sampling.options import Sampling

logger = logging.getLogger(__name__)

WAYS = {
    Way(): "",
    Way(shares=False): "every sample keeps the keys of its prompt for itself",
    Way(shares=False, pads=False): "only prompts of equal length are answered together",
    Way(shares=False, moves=False): "every sample reads its prompt by itself",
    Way(
        shares=False, moves=False, pads=False
    ): "every sample reads its prompt by itself, and only prompts of equal length are answered together",
    Way(shares=False, moves=False, pads=False, together=False): "one answer is written at a time",
}
"""Fastest first, and what a slower one means."""

EXACT, ROUNDED = 1e-3, 0.1
"""Largest distance of logits that is rounding, as a share of their size: in float32, and in half precision.

In float32 every row and step is held to it. In half precision the median over the steps of a row is: an
expert that is chosen otherwise by rounding moves one step far.
"""

_LONG, _SHORT, _STEPS = 9, 3, 6
_LEAVES_AFTER = 2
_MEMO = "hf_align_sampling_ways"
_FAILS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError)


@dataclass(frozen=True)
class _Sequence:
    """``prompt``, what is ``written`` behind it, and the ``logits`` (_STEPS, V) that choose its tokens."""

    prompt: list[int]
    written: list[int]
    logits: torch.Tensor


@torch.no_grad()
def way_for(model: Any, pad_token_id: int) -> Way:
    """The fastest way that is right for ``model``, in evaluation mode; the log says if it is a slower one.

    Found once for each model and attention that it is set to. Raises UserError where none is right.
    """
    memo: dict[Any, Way] = vars(model).setdefault(_MEMO, {})
    key = getattr(model.config, "_attn_implementation", None)
    if key not in memo:
        memo[key] = _find(model, pad_token_id)
    return memo[key]


def abilities(model: Any) -> contextlib.AbstractContextManager[DecodingSupport]:
    """Let ``model`` use the attention of sampling while inside, where it can; what it is able to do then."""
    return contextlib.nullcontext(DecodingSupport()) if count_virtual_tokens(model) else decoding(model)


def _find(model: Any, pad_token_id: int) -> Way:
    positions = [n for n in (count_positions(model), longrope_bound(model)) if n is not None]
    virtual = count_virtual_tokens(model)
    windows = virtual and not grows_everywhere(growing_cache(model.config.get_text_config(), 0))
    # Padding stands between the virtual tokens and the prompt, where a window counts it as text.
    ways = [way for way in WAYS if not (way.pads and windows)]
    if min(positions, default=_LONG + _STEPS + virtual) < _LONG + _STEPS + virtual:
        return ways[0]
    vocabulary = model.config.get_text_config().vocab_size
    with independent_rows(model):
        with _precision_of(model) as exact:
            known = [_alone(model, vocabulary, number) for number in range(6)]
        if not all(torch.isfinite(one.logits).all() for one in known):
            return ways[0]  # whoever samples finds it as well, and says so
        limit = EXACT if exact and all(exact) else ROUNDED
        found: list[float] = []
        for way in ways:
            found.append(_distance(model, known, way, pad_token_id, exact=limit == EXACT))
            if found[-1] <= limit:
                if WAYS[way]:
                    logger.warning(
                        "%s: %s (%s)", type(model).__name__, WAYS[way], _why(found, windows=windows)
                    )
                return way
    raise UserError(
        f"{type(model).__name__} cannot write answers here: with the cache that transformers makes for it, "
        f"even one answer at a time, its logits are not those of a full pass ({_why(found)}; at most "
        f"{limit:g} is rounding). Leave out what samples from it (num_samples: 0), or use another model"
    )


def _why(found: Sequence[float], *, windows: bool = False) -> str:
    """``found``: the distances of the ways that were tried."""
    if windows and len(found) == 1:
        return "its sliding window would count padding behind the virtual tokens"
    if found[0] == float("inf"):
        return "the model does not take the faster way"
    return f"otherwise its logits differ from those of a full pass by {found[0]:.1e} of their size"


@contextlib.contextmanager
def _precision_of(model: Any) -> Iterator[list[bool]]:
    """Whether each pass inside computes in float32; autocast may begin inside ``forward`` (Accelerate)."""
    found: list[bool] = []
    device = model.device.type
    float32 = all(p.dtype == torch.float32 for p in model.parameters() if p.is_floating_point())
    # TF32 on a GPU rounds as half precision does.
    float32 &= device != "cuda" or torch.get_float32_matmul_precision() == "highest"

    def note(*_: Any) -> None:
        found.append(float32 and not torch.is_autocast_enabled(device))

    hook = model.get_input_embeddings().register_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def _alone(model: Any, vocabulary: int, number: int) -> _Sequence:
    """The first and last two have long prompts, the two between them a short one; two samples of each."""
    prompt_number, sample = divmod(number, 2)
    length = _SHORT if prompt_number == 1 else _LONG
    prompt = [(5 + 31 * prompt_number + 7 * i) % vocabulary for i in range(length)]
    written = [(11 + 17 * number + 5 * i * (sample + 1)) % vocabulary for i in range(_STEPS - 1)]
    ids = torch.tensor([prompt + written], device=model.device)
    # PEFT puts virtual tokens before what has a mask.
    mask = {"attention_mask": torch.ones_like(ids)} if count_virtual_tokens(model) else {}
    logits = model(input_ids=ids, use_cache=False, **mask).logits[0, -_STEPS:]
    return _Sequence(prompt, written, logits)


def _distance(model: Any, known: Sequence[_Sequence], way: Way, pad_token_id: int, *, exact: bool) -> float:
    """How far logits of this ``way`` are from the ``known`` ones; infinite where it cannot be gone."""
    inner = PromptedModel(model) if count_virtual_tokens(model) else model
    chosen = [0, 1, 2, 3] if way.pads else [0, 1, 4, 5]
    groups = [chosen] if way.together else [[number] for number in chosen]
    errors: list[float] = []
    try:
        with abilities(model) as able:
            for copies in (1, 2) if way.moves else (1,):
                for group in groups:
                    of_rows: dict[int, list[float]] = {}
                    alike = [known[i] for i in group]
                    for number, step, logits in _followed(inner, alike, way, able, pad_token_id, copies):
                        wanted = alike[number].logits[step].float()
                        error = torch.linalg.vector_norm(logits - wanted) / _size(wanted)
                        of_rows.setdefault(number, []).append(float(error))
                    errors += [max(one) if exact else statistics.median(one) for one in of_rows.values()]
    except UserError:
        raise
    except _FAILS as error:
        logger.debug("%s: %s", type(model).__name__, error)
        return float("inf")
    return max(errors)


def _size(logits: torch.Tensor) -> torch.Tensor:
    """Of logits (V,), whose mean says nothing."""
    return torch.linalg.vector_norm(logits - logits.mean()).clamp(min=1e-12)


def _followed(
    model: Any,
    sequences: Sequence[_Sequence],
    way: Way,
    able: DecodingSupport,
    pad_token_id: int,
    copies: int,
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """(number of a sequence, step, logits (V,)) while the sequences are written in this ``way``.

    ``copies``: so many of them, one behind the other, continue one prompt.
    """
    prompts = [one.prompt for one in sequences][::copies]
    sampling = Sampling(max_new_tokens=_STEPS)
    batch = SequenceBatch(model, prompts, sampling, [], pad_token_id, way=way, able=able)
    alive = torch.arange(len(sequences), device=model.device)
    written = torch.tensor([one.written for one in sequences], device=model.device)
    logits = batch.prefill(copies)
    for step in range(_STEPS):
        for row, number in enumerate(alive.tolist()):
            yield number, step, logits[row]
        if step == _STEPS - 1:
            return
        if step == _LEAVES_AFTER and way.moves and len(alive) > 1:
            left = torch.tensor([0, *range(2, len(alive))], device=model.device)
            alive = alive[left]
            batch.keep(left)
        logits = batch.next(written[alive, step][:, None], step)
