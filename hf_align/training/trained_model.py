"""The model of a run: loaded, fit for its rows, with what is trained put on it, and saved at the end.

What this leaves out: how it is loaded (``modeling``), the adapters themselves (``adapters``), and the run
around it (``stage``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from hf_align.config.adapter import AdapterConfig
    from hf_align.training.stage import Run
    from hf_align.training.trainer import AlignTrainer

logger = logging.getLogger(__name__)


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


def adapted(
    run: Run,
    base: PreTrainedModel,
    adapter: AdapterConfig,
    apply: Callable[[PreTrainedModel, AdapterConfig], torch.nn.Module],
) -> torch.nn.Module:
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
    run.record.update(
        model={
            "name": name,
            "class": type(base).__name__,
            "parameters": total,
            "trainable_parameters": trainable,
            "precision": run.machine.precision,
            "adapter": adapter.adapter,
            "trained": trained,
        }
    )
    return model


def save_model(run: Run, trainer: AlignTrainer, folder: Path | None = None) -> None:
    """Save the trained model as one whole, also where its checkpoints are sharded.

    ``folder``: where, by default the run folder.
    """
    # Trainer switches the cache off for training; whoever loads the model generates with it.
    trainer.model.config.use_cache = True
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    place = folder or Path(run.training.output_dir)
    trainer.save_model(str(place))
    if run.machine.main:
        # A pickle, and nothing in it that run.json does not say.
        (place / "training_args.bin").unlink(missing_ok=True)
