"""Adapters of our own with PEFT's manners: a model, a tuner and a layer that any method plugs into.

A method says where it adds weights and how they compute (:class:`Method`); everything else is here and the
same for all of them: several adapters by name on one base, switching off, training, saving, loading, merging.
:class:`CustomModel` is a ``peft.PeftModel``, built on PEFT's ``BaseTuner`` and ``BaseTunerLayer``, so
whatever takes one of PEFT's models takes it too. What this leaves out: the methods (``methods`` lists them),
and the files that an adapter is saved to (``files``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import set_additional_trainable_modules

from hf_align.adapters.method import Added, Method
from hf_align.adapters.methods import METHODS

PREFIX = "HF_ALIGN_"
"""Begins the ``peft_type`` of our methods, so that none is taken for one of PEFT's, now or later."""


@dataclass
class CustomConfig(PeftConfig):
    """``adapter_config.json`` of our methods.

    ``options``: the method's own, by name. ``places``: modules of the base that carry added weights.
    ``base``: the base's fingerprint (``fingerprint``), by which another base is refused.
    """

    options: dict[str, Any] = field(default_factory=dict)
    modules_to_save: list[str] | None = None
    places: list[str] | None = None
    base: dict[str, Any] | None = None

    @property
    def method(self) -> str:
        return str(self.peft_type).removeprefix(PREFIX).lower()


class CustomLayer(torch.nn.Module, BaseTunerLayer):
    """A module of the base with what each adapter adds to it; at most one adapter is active at a time.

    Whatever else is asked of it, the module of the base answers.
    """

    adapter_layer_names = ("added",)

    def __init__(self, base_layer: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.added = torch.nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self.training = base_layer.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        active = [name for name in self.active_adapters if name in self.added]
        if self.disable_adapters or self.merged or not active:
            return self.base_layer(*args, **kwargs)
        return self.added[active[0]].run(self.base_layer, *args, **kwargs)

    def enable_adapters(self, enabled: bool) -> None:
        """Switch on or off. Unlike PEFT's own, this leaves alone what is trained."""
        self._disable_adapters = not enabled

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        for name in adapter_names or self.active_adapters:
            if name in self.added:
                self.added[name].merge_into(self.base_layer)
                self.merged_adapters.append(name)

    def unmerge(self) -> None:
        raise NotImplementedError("the weights before merging are not kept")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":  # not there yet
                raise
            return getattr(self.base_layer, name)


class CustomTuner(BaseTuner):
    """Puts the layers of a method into a base and takes them out again."""

    prefix = "hf_align_"
    tuner_layer_cls = CustomLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def inject_adapter(self, model: torch.nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter as its configuration says; a second one leaves alone what the first one trains."""
        config: CustomConfig = self.peft_config[adapter_name]
        method = find_method(config)
        if not any(isinstance(module, CustomLayer) for module in model.modules()):
            model.requires_grad_(False)
        with _unwrapped(model):
            places = method.attach(model, method.options(**config.options))
        config.places = sorted(places)
        for path, added in places.items():
            self._create_and_replace(
                config, adapter_name, model.get_submodule(path), path, model, added=added
            )
        active: CustomConfig = self.peft_config[self.active_adapters[0]]
        self.set_adapter(self.active_adapters, inference_mode=active.inference_mode)
        set_additional_trainable_modules(
            model=model,
            peft_config=config,
            model_config=BaseTuner.get_model_config(self),
            adapter_name=adapter_name,
            activate_adapter=adapter_name in self.active_adapters,
        )

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: torch.nn.Module,
        target_name: str,
        parent: torch.nn.Module,
        current_key: str = "",
        *,
        added: Added,
    ) -> None:
        layer = target if isinstance(target, CustomLayer) else CustomLayer(target)
        device = next((p.device for p in layer.base_layer.parameters()), None)
        added.train(layer.training)
        layer.added[adapter_name] = added if device is None else added.to(device)
        parent.set_submodule(target_name, layer)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Added weights are float32 from the start."""


def register(method: Method) -> None:
    """Make a method known to PEFT's tables, under a name that PEFT itself cannot have."""
    kind = PREFIX + method.name.upper()
    PEFT_TYPE_TO_CONFIG_MAPPING[kind] = CustomConfig
    PEFT_TYPE_TO_TUNER_MAPPING[kind] = CustomTuner


def find_method(config: CustomConfig) -> Method:
    """The entry of ``methods.METHODS`` that an adapter was made by."""
    return METHODS[config.method]


def own_layers(model: torch.nn.Module) -> dict[str, CustomLayer]:
    """The layers that carry added weights, by their path in ``model``."""
    return {name: module for name, module in model.named_modules() if isinstance(module, CustomLayer)}


@contextlib.contextmanager
def _unwrapped(model: torch.nn.Module) -> Iterator[None]:
    """The base as it is without the layers of earlier adapters, so that a method finds the same places."""
    layers = own_layers(model)
    for path, layer in reversed(list(layers.items())):
        model.set_submodule(path, layer.base_layer)
    try:
        yield
    finally:
        for path, layer in layers.items():
            model.set_submodule(path, layer)
