"""Options of what is trained: an adapter on a frozen model, chosen weights of it, or all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem
from hf_align.config.peft_names import OWN_KEYS, check_peft_options, peft_names, why_left_out
from hf_align.errors import did_you_mean

LORA = ("lora", "qlora")
VIRTUAL = ("prefix", "prompt", "p_tuning")
"""Methods that put virtual tokens before each sequence."""
FROM_PEFT = (*LORA, *VIRTUAL, "ia3", "ln_tuning")
OWN = ("bottleneck", "bitfit", "ladder")
"""Methods that PEFT lacks."""
MERGEABLE = (*LORA, "ia3", "ln_tuning", "bitfit")
"""Methods that are changes of weights, so that a plain model can hold them."""

PeftValue = bool | int | float | str | list[str] | list[int] | dict[str, int] | dict[str, float] | None
"""What options of PEFT's configurations are made of."""


class _EveryAdapter(tuple[str, ...]):
    """Any adapter, those of PEFT by name included; its entries stand for all of them in messages."""

    def __contains__(self, name: object) -> bool:
        return name != "none"


EVERY_ADAPTER = _EveryAdapter(("lora", "bottleneck"))
_ANY = ("adapter", EVERY_ADAPTER)
_LORA = ("adapter", LORA)
_EVA = ("init_lora_weights", ("eva",))
_VIRTUAL = ("adapter", VIRTUAL)
_BOTTLENECK = ("adapter", ("bottleneck",))
_LADDER = ("adapter", ("ladder",))
_CACHED_LADDER = ("ladder_cache", (True,))


@dataclass(frozen=True)
class AdapterConfig(Group):
    """The adapter; ``none`` trains weights of the model itself, all or those that ``trainable`` names."""

    title: ClassVar[str] = "Adapter"

    adapter: str = option(
        "none",
        help=f"what is trained. none: weights of the model; {', '.join((*FROM_PEFT, *OWN))}; or another "
        "method of PEFT by its name, such as boft (docs/adapters.md)",
        non_empty=True,
    )
    trainable: list[str] | None = option(
        None,
        help="train these weights only: names with * and ?, such as model.layers.*.mlp.*, or norms, "
        "embeddings, head, biases, last_k:2 (the last two blocks)",
        non_empty=True,
        one_or_list=True,
        needs=("adapter", ("none",)),
    )
    lora_r: int = option(16, ge=1, help="rank of the update matrices", needs=_LORA)
    lora_alpha: float = option(32.0, gt=0, help="the update is scaled by lora_alpha / lora_r", needs=_LORA)
    lora_dropout: float = option(0.0, ge=0, lt=1, help="dropout before the update", needs=_LORA)
    lora_target_modules: str | list[str] = option(
        "all-linear",
        help="all-linear, a list of module names such as [q_proj, v_proj], or a regular expression",
        non_empty=True,
        needs=_LORA,
    )
    modules_to_save: list[str] | None = option(
        None,
        help="modules trained in full and saved with the adapter, for example [lm_head]",
        non_empty=True,
        one_or_list=True,
        needs=_ANY,
    )
    use_rslora: bool = option(False, help="scale by lora_alpha / sqrt(lora_r) instead", needs=_LORA)
    use_dora: bool = option(
        False, help="weight-decomposed LoRA: trains magnitude and direction apart", needs=_LORA
    )
    init_lora_weights: Literal["default", "gaussian", "eva", "pissa", "olora", "loftq"] = option(
        "default",
        help="how the update begins: default, gaussian and eva at zero, eva in the main directions of what "
        "the layers get from the training rows; pissa and olora take the largest part of the weights "
        "themselves; loftq corrects the rounding of a 4-bit base",
        needs=_LORA,
    )
    eva_rho: float = option(
        2.0, ge=1, help="a layer gets a rank of at most eva_rho x lora_r; 1: every layer lora_r", needs=_EVA
    )
    eva_tau: float = option(
        0.99, gt=0, le=1, help="cosine similarity of directions that have converged", needs=_EVA
    )
    eva_use_label_mask: bool = option(
        True, help="look at the positions that predict a target only, where rows have targets", needs=_EVA
    )
    eva_whiten: bool = option(False, help="scale directions by their singular values", needs=_EVA)
    eva_adjust_scaling_factors: bool = option(
        True, help="keep lora_alpha / rank the same for all layers, whatever rank they get", needs=_EVA
    )
    train_new_tokens: bool = option(
        False,
        help="train the rows of the tokens that hf-align tokenizer has added to the model, beside the update",
        needs=_LORA,
    )
    num_virtual_tokens: int = option(20, ge=1, help="virtual tokens before each sequence", needs=_VIRTUAL)
    prompt_tuning_init_text: str | None = option(
        None,
        help="begin with the embeddings of this text; null: with random ones",
        non_empty=True,
        needs=("adapter", ("prompt",)),
    )
    prefix_projection: bool = option(
        False, help="compute the prefix with a small network while training", needs=("adapter", ("prefix",))
    )
    encoder_hidden_size: int | None = option(
        None,
        ge=1,
        help="width of the network that computes the virtual tokens; null: the model's",
        needs=("adapter", ("prefix", "p_tuning")),
    )
    bottleneck_placement: Literal["houlsby", "pfeiffer", "parallel"] = option(
        "pfeiffer",
        help="houlsby: after attention and feed-forward part; pfeiffer: after the feed-forward part; "
        "parallel: beside it",
        needs=_BOTTLENECK,
    )
    bottleneck_width: int | None = option(
        None, ge=1, help="width of the bottleneck; null: by bottleneck_reduction", needs=_BOTTLENECK
    )
    bottleneck_reduction: float = option(
        16.0, gt=1, help="the model's width divided by that of the bottleneck", needs=_BOTTLENECK
    )
    bottleneck_activation: str = option(
        "relu", help="activation by transformers' name: relu, gelu, silu …", needs=_BOTTLENECK, non_empty=True
    )
    bottleneck_scaling: float = option(1.0, gt=0, help="factor of what is added", needs=_BOTTLENECK)
    bottleneck_dropout: float = option(0.0, ge=0, lt=1, help="dropout inside", needs=_BOTTLENECK)
    ladder_reduction_factor: int = option(
        8, ge=2, help="the model's width divided by that of the side network", needs=_LADDER
    )
    ladder_every: int = option(
        1, ge=1, help="a side block beside every so many blocks, counted from the last", needs=_LADDER
    )
    ladder_layers: list[int] | None = option(
        None, help="blocks with a side block beside them, by number from 0; null: ladder_every", needs=_LADDER
    )
    ladder_temperature: float = option(
        0.1, gt=0, help="temperature of the gates between model and side network", needs=_LADDER
    )
    ladder_init: Literal["pruned", "random"] = option(
        "pruned", help="first weights of the side network: cut out of the model's, or random", needs=_LADDER
    )
    ladder_output: Literal["add", "replace"] = option(
        "add",
        help="what the head sees: the model's last states plus the side network's, so that training begins "
        "at the model itself, or the side network's alone, as in the paper",
        needs=_LADDER,
    )
    ladder_cache: bool = option(
        False,
        help="compute the model's states once, keep them in dataset_cache_dir, and read them in training",
        needs=_LADDER,
    )
    ladder_cache_budget_gb: float = option(
        20.0,
        gt=0,
        help="room on the disk for the states, in GB; checked beforehand",
        needs=_CACHED_LADDER,
        changes="speed",
    )
    ladder_cache_dtype: Literal["bfloat16", "as_computed"] = option(
        "bfloat16", help="number format of the states on the disk", needs=_CACHED_LADDER
    )
    peft_options: dict[str, PeftValue] | None = option(
        None,
        help="more options of PEFT's configuration of the method, by PEFT's names: {key: value}",
        needs=_ANY,
    )

    @property
    def trains_base(self) -> bool:
        """Whether weights of the model itself are trained."""
        return self.adapter == "none"

    @property
    def virtual_tokens(self) -> bool:
        """Whether virtual tokens stand before each sequence, so that sequences cannot share a row."""
        return self.adapter in VIRTUAL

    @property
    def mergeable(self) -> bool:
        """Whether a plain model can hold what was trained; other methods of PEFT are asked when merging."""
        return self.adapter in MERGEABLE

    @property
    def dropout(self) -> str:
        """The key of a dropout of the adapter's own that is not zero; empty where there is none."""
        keys = [key for key in ("lora_dropout", "bottleneck_dropout") if getattr(self, key)]
        return keys[0] if keys else ""

    @property
    def begins_elsewhere(self) -> str:
        """Why the model with the adapter off is not the one that training starts from, or nothing."""
        if self.virtual_tokens:
            return "virtual tokens change the model's outputs before anything is trained"
        if self.init_lora_weights in ("pissa", "olora"):
            return f"{self.init_lora_weights} moves a part of the model's own weights into the adapter"
        if self.init_lora_weights == "loftq":
            return "loftq corrects the quantised base before anything is trained"
        return ""

    def check(self) -> None:
        if self.adapter not in ("none", *FROM_PEFT, *OWN):
            others = peft_names()
            if self.adapter not in others:
                if why := why_left_out(self.adapter):
                    raise KeyProblem(
                        ("adapter",), f"found '{self.adapter}' of PEFT, which is not offered: {why}."
                    )
                known = ("none", *FROM_PEFT, *OWN, *others)
                near = did_you_mean(self.adapter, known)
                raise KeyProblem(
                    ("adapter",),
                    f"found '{self.adapter}'; expected one of {', '.join(('none', *FROM_PEFT, *OWN))}, or "
                    f"another method of the installed PEFT: {', '.join(others)}.{near}",
                )
        if self.peft_options is not None and not self.trains_base:
            if self.adapter in OWN:
                raise KeyProblem(
                    ("peft_options", "adapter"), "this has no effect: the adapter is not PEFT's."
                )
            check_peft_options(self.adapter, self.peft_options)
        self._check_lora()
        if self.ladder_layers is not None and self.ladder_every != 1:
            raise KeyProblem(("ladder_layers", "ladder_every"), "both say which blocks are read; give one.")

    def _check_lora(self) -> None:
        if self.use_dora and self.init_lora_weights in ("pissa", "olora", "loftq"):
            raise KeyProblem(
                ("init_lora_weights", "use_dora"),
                "DoRA takes the norms of the weights before the update is put on, and "
                f"{self.init_lora_weights} changes what they belong to; use one of the two.",
            )
        if self.train_new_tokens and "trainable_token_indices" in (self.peft_options or {}):
            raise KeyProblem(
                ("train_new_tokens", "peft_options"),
                "both say which rows are trained; leave trainable_token_indices out.",
            )
        rows = self.train_new_tokens or "trainable_token_indices" in (self.peft_options or {})
        if rows and self.init_lora_weights == "eva":
            raise KeyProblem(
                ("init_lora_weights", "train_new_tokens" if self.train_new_tokens else "peft_options"),
                "PEFT's eva takes single rows of embeddings for a layer with inputs of its own; use one of "
                "the two.",
            )


__all__ = ["FROM_PEFT", "OWN", "OWN_KEYS", "AdapterConfig"]
