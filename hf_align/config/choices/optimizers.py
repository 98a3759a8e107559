"""The optimizers and trackers of transformers by name: what each takes, what it needs, which are refused.

transformers ignores arguments that an optimizer does not take, and finds out late what is not installed. A
test compares the names with those of the installed transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from hf_align.config.group import KeyProblem
from hf_align.errors import did_you_mean

Optimizer = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "adafactor",
    "sgd",
    "adagrad",
    "rmsprop",
    "lion_32bit",
    "lion_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "ademamix",
    "ademamix_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "adamw_bnb_8bit",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adamw_anyprecision",
    "stable_adamw",
    "grokadamw",
    "schedule_free_adamw",
    "schedule_free_radam",
    "schedule_free_sgd",
    "galore_adamw",
    "galore_adamw_8bit",
    "galore_adafactor",
    "apollo_adamw",
    "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise",
    "apollo_adamw_layerwise",
    "lomo",
    "adalomo",
]
Tracker = Literal[
    "none",
    "tensorboard",
    "wandb",
    "trackio",
    "mlflow",
    "comet_ml",
    "clearml",
    "swanlab",
    "dvclive",
    "neptune",
    "azure_ml",
    "codecarbon",
    "dagshub",
    "flyte",
    "kubeflow",
]

LOW_RANK = ("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "apollo_adamw")
"""Those that project the gradients of chosen weights."""
SCHEDULE_FREE = ("schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd")
"""Those whose weights while training are not those of the model."""
IN_BACKWARD = (
    "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise",
    "apollo_adamw_layerwise",
    "lomo",
    "adalomo",
)

_ADEMAMIX = ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")
_GALORE = ("rank", "update_proj_gap", "scale", "proj_type")
OPTIMIZER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
    **dict.fromkeys(("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"), _ADEMAMIX),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), ("block_size", "bf16_stochastic_round")),
    "adamw_anyprecision": (
        "use_kahan_summation",
        "momentum_dtype",
        "variance_dtype",
        "compensation_buffer_dtype",
    ),
    "stable_adamw": ("max_lr", "kahan_sum", "decouple_lr"),
    "grokadamw": ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
    **dict.fromkeys(SCHEDULE_FREE, ("weight_lr_power", "r")),
    **dict.fromkeys(("galore_adamw", "galore_adamw_8bit", "galore_adafactor"), _GALORE),
    "apollo_adamw": ("rank", "proj", "scale_type", "update_proj_gap", "scale", "proj_type"),
}
"""What ``optim_args`` may hold; an optimizer that is not here takes none."""

OPTIMIZER_MODULES: dict[str, str] = {
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), "torchao"),
    "adamw_torch_xla": "torch_xla",
    "adamw_torch_npu_fused": "torch_npu",
    "adamw_anyprecision": "torchdistx",
    "stable_adamw": "optimi",
    "grokadamw": "grokadamw",
    **dict.fromkeys(SCHEDULE_FREE, "schedulefree"),
    **dict.fromkeys(("galore_adamw", "galore_adamw_8bit", "galore_adafactor"), "galore_torch"),
    "apollo_adamw": "apollo_torch",
}
"""The module that an optimizer needs beside what hf_align depends on."""

TRACKER_MODULES: dict[str, tuple[str, ...]] = {
    "azure_ml": ("azureml",),
    "dagshub": ("dagshub", "mlflow"),
    "flyte": ("flytekit",),
    "kubeflow": (),
}
"""The modules of a tracker, where they are not one of its name."""

PACKAGES: dict[str, str] = {
    "optimi": "torch-optimi",
    "galore_torch": "galore-torch",
    "apollo_torch": "apollo-torch",
    "azureml": "azureml-core",
}
"""The package of a module, where it has another name."""


def check_optimizer(
    optimizer: str, arguments: Mapping[str, object], target_modules: Sequence[str] | None
) -> None:
    """Raise :class:`KeyProblem` for an optimizer that cannot be used, and for options that it lacks."""
    if optimizer in IN_BACKWARD:
        raise KeyProblem(
            ("optim",),
            f"{optimizer} changes each weight while gradients are still being computed. Here a step is the "
            "sum of several micro-batches, averaged over processes and clipped as a whole, so that it would "
            f"be made of parts of the gradient. Take {_instead(optimizer)}.",
        )
    known = OPTIMIZER_ARGUMENTS.get(optimizer, ())
    for name in arguments:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise KeyProblem(
                ("optim_args", "optim"), f"{optimizer} has no {name!r}; {takes}.{did_you_mean(name, known)}"
            )
    if optimizer in LOW_RANK and not target_modules:
        raise KeyProblem(
            ("optim_target_modules", "optim"),
            f"{optimizer} projects the gradients of chosen layers; name them, or all-linear.",
        )


def _instead(optimizer: str) -> str:
    name = optimizer.removesuffix("_layerwise")
    return name if name != optimizer else "adafactor or adamw_8bit"
