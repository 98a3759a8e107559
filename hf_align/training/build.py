"""The model of a run: loaded, fit for its rows, taught its batches, with what is trained put on it.

Every stage builds its model by :func:`build_model`. What this leaves out: how a model is loaded
(``modeling``), the adapters themselves (``adapters``), and the run around it (``stage``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_align.runs.schema import Model, Record

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from hf_align.config.adapter import AdapterConfig
    from hf_align.training.run import Run

logger = logging.getLogger(__name__)

Layout = Literal["shared", "packed", "padded"]
LAYOUTS: tuple[Layout, ...] = ("shared", "packed", "padded")
"""How batches of a model look: packed with each prompt once, packed, or padded."""
Apply = Callable[["PreTrainedModel", "AdapterConfig"], "torch.nn.Module"]


@dataclass(frozen=True)
class Built:
    """``model``: what is trained, around ``base``, the model of transformers. ``layout``: of its batches."""

    base: PreTrainedModel
    model: torch.nn.Module
    layout: Layout

    @property
    def packed(self) -> bool:
        return self.layout != "padded"

    @property
    def shared(self) -> bool:
        return self.layout == "shared"


def build_model(
    run: Run,
    load: Callable[..., PreTrainedModel],
    install_head: Callable[[Any], None],
    *,
    check: Callable[[Run, PreTrainedModel], object] | None = None,
    pack: bool | Callable[[PreTrainedModel], bool] = True,
    share: bool = False,
    dropout: bool = True,
    before_training: Callable[[PreTrainedModel, Layout], None] | None = None,
    apply: Apply | None = None,
    **options: Any,
) -> Built:
    """The model of the recipe, ready to be trained; run.json says what came of it.

    ``load`` loads it, with ``options`` as in :func:`load_base`, and ``install_head`` teaches its ``forward``
    what the objective reads. ``check`` raises UserError where it does not fit the data; by default
    :func:`check_rows_fit`. ``pack``: whether what ``load`` returns can be packed in this stage, beside what
    the recipe says; ``share`` and ``dropout``: as in :func:`make_ready`.
    ``before_training`` gets the base as it was loaded, with its head, before anything is put on it.
    ``apply`` puts the adapter on, by default ``adapters.factory.apply_adapter``.
    """
    from hf_align.adapters.factory import apply_adapter

    base = load_base(run, load, **options)
    (check or check_rows_fit)(run, base)
    wanted = (pack if isinstance(pack, bool) else pack(base)) and may_pack(run.config)
    layout = make_ready(base, install_head, pack=wanted, share=share, dropout=dropout)
    if before_training is not None:
        before_training(base, layout)
    return Built(base, adapted(run, base, run.config.adapter, apply or apply_adapter), layout)


def may_pack(config: Any) -> bool:
    """Whether the recipe wants packed batches, and its adapter allows them; the log says why it does not."""
    from hf_align.adapters.factory import can_pack

    return config.data.packing and can_pack(config.adapter)


def make_ready(
    base: PreTrainedModel,
    install_head: Callable[[Any], None],
    *,
    pack: bool = True,
    share: bool = False,
    dropout: bool = True,
) -> Layout:
    """Give ``base`` its head and find out how its batches look: as it can of what is wanted.

    ``pack``: sequences side by side; ``share``: each prompt once. ``dropout``: False switches that of the
    model off.
    """
    from hf_align.modeling.attention import probe_once
    from hf_align.modeling.dropout import disable_dropout

    if not dropout and (off := disable_dropout(base)):
        listed = ", ".join(f"{name} {value:g}" for name, value in off.items())
        logger.info("dropout is switched off: %s", listed)
    layout: Layout = "padded"
    if pack and probe_once.enable_segment_attention(base):
        layout = "shared" if share and probe_once.shares_prefixes(base) else "packed"
    else:
        probe_once.settle_padding(base)
    install_head(base)
    return layout


def load_base(run: Run, load: Callable[..., PreTrainedModel], **options: Any) -> PreTrainedModel:
    """The model of the recipe as ``load`` loads it, before anything is put on it.

    Seeds the generator that new weights of adapters and heads are drawn from. ``options`` go to ``load``; its
    weights are to be trained where there is no adapter, unless they say otherwise (``trainable_base``).
    """
    import transformers

    transformers.set_seed(run.config.training.seed)
    return load(
        run.config.model,
        precision=run.machine.precision,
        use_cpu=run.machine.use_cpu,
        **({"trainable_base": run.config.adapter.trains_base} | options),
    )


def check_rows_fit(run: Run, model: PreTrainedModel) -> None:
    """Raise UserError where the model's vocabulary or its positions do not reach for the data."""
    from hf_align.modeling.loading import check_vocabulary
    from hf_align.modeling.positions import check_context

    data = run.config.data
    check_vocabulary(model, run.tokenizer)
    # The rows of a stream are not known yet; its max_length bounds them.
    lengths = {} if data.streaming else run.data.report.to_dict()["total"]["lengths"]
    adapter = getattr(run.config, "adapter", None)
    virtual = adapter.num_virtual_tokens if adapter is not None and adapter.virtual_tokens else 0
    check_context(model, min(data.max_length, lengths.get("max", data.max_length)), virtual_tokens=virtual)


def ready_for_rows(run: Run, base: PreTrainedModel) -> int:
    """Settle how rows of a head that reads one token are padded, and check that they fit; returns the id of
    the pad token.

    Raises UserError where the vocabulary or the positions do not reach for the data.
    """
    from hf_align.modeling.pad_token import choose_pad_token

    pad_token_id = choose_pad_token(run.tokenizer, base)
    # Saved with the tokenizer: on the right, positions count from the first token for every model family.
    run.tokenizer.padding_side = "right"
    check_rows_fit(run, base)
    return pad_token_id


def with_trained_head(base: PreTrainedModel, adapter: AdapterConfig) -> torch.nn.Module:
    """A classifier or reward model with the adapter of the recipe, beside which its head is trained."""
    from hf_align.adapters.factory import apply_adapter
    from hf_align.modeling.reward_model import head_modules

    return apply_adapter(base, adapter, task_type="SEQ_CLS", head=head_modules(base))


def adapted(run: Run, base: PreTrainedModel, adapter: AdapterConfig, apply: Apply) -> torch.nn.Module:
    """The base with what is trained: noise on its embeddings and an adapter where the recipe asks for them.

    Run.json says what came of it.
    """
    from hf_align.adapters.factory import count_parameters, trained_weights
    from hf_align.modeling.neftune import install_neftune

    if run.training.neftune_noise_alpha:
        install_neftune(base, run.training.neftune_noise_alpha)
    model = apply(base, adapter)
    total, trainable = count_parameters(model)
    name = run.config.model.model_name_or_path
    logger.info("%s: %s parameters, %s trained", name, f"{total:,}", f"{trainable:,}")
    trained = trained_weights(model)
    if adapter.trainable:
        for part in trained:
            logger.info("trained: %(name)s (%(count)d, %(parameters)d parameters)", part)
    facts = Model(
        name=name,
        class_name=type(base).__name__,
        parameters=total,
        trainable_parameters=trainable,
        precision=run.machine.precision,
        adapter=adapter.adapter,
        trained=trained,
    )
    run.record.update(Record(model=facts))
    return model
