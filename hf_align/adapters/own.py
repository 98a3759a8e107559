"""Adapters of our own with PEFT's manners: a model, a tuner and a layer that any method plugs into.

A method says where it adds weights and how they compute (:class:`Method`); everything else is here and the
same for all of them: several adapters by name on one base, switching off, training, saving, loading, merging.
:class:`OwnModel` is a ``peft.PeftModel``, built on PEFT's ``BaseTuner`` and ``BaseTunerLayer``, so whatever
takes one of PEFT's models takes it too. What this leaves out: the methods (``methods`` lists them), and the
files that an adapter is saved to (``own_files``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import set_additional_trainable_modules

PREFIX = "HF_ALIGN_"
"""Begins the ``peft_type`` of our methods, so that none is taken for one of PEFT's, now or later."""


class Added(torch.nn.Module):
    """What a method adds at one module of the base. Subclasses hold the weights and define :meth:`run`.

    Created in float32 on the CPU; it is moved to the device of the module it stands at.
    """

    def run(self, base: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """What the module gives with the adapter on; ``base`` is the module itself, called or not."""
        raise NotImplementedError

    def merge_into(self, base: torch.nn.Module) -> None:
        """Change the weights of ``base`` so that it gives what :meth:`run` gave, where a method can."""
        raise NotImplementedError(f"{type(self).__name__} is not a change of weights of the base")


@dataclass(frozen=True)
class Method:
    """A method: one options dataclass, one function, one entry of ``methods.METHODS``.

    ``name``: the value of ``adapter:``. ``options``: a dataclass; its fields are what is saved with an
    adapter. ``attach(base, options)``: the modules of the base, by their path, and what is added at each;
    called with the plain base, before anything is put on it, and expected to be deterministic but for the
    values of new weights; raises UserError where the base has no place for the method. ``not_mergeable``: why
    :meth:`Added.merge_into` is not there, in words that follow "cannot be merged: "; empty where it is.
    """

    name: str
    options: type[Any]
    attach: Callable[[Any, Any], Mapping[str, Added]]
    not_mergeable: str = ""


@dataclass
class OwnConfig(PeftConfig):
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


class OwnLayer(torch.nn.Module, BaseTunerLayer):
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


class OwnTuner(BaseTuner):
    """Puts the layers of a method into a base and takes them out again."""

    prefix = "hf_align_"
    tuner_layer_cls = OwnLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def inject_adapter(self, model: torch.nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter as its configuration says; a second one leaves alone what the first one trains."""
        config: OwnConfig = self.peft_config[adapter_name]
        method = find_method(config)
        if not any(isinstance(module, OwnLayer) for module in model.modules()):
            model.requires_grad_(False)
        with _taken_off(model):
            places = method.attach(model, method.options(**config.options))
        config.places = sorted(places)
        for path, added in places.items():
            self._create_and_replace(
                config, adapter_name, model.get_submodule(path), path, model, added=added
            )
        active: OwnConfig = self.peft_config[self.active_adapters[0]]
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
        layer = target if isinstance(target, OwnLayer) else OwnLayer(target)
        device = next((p.device for p in layer.base_layer.parameters()), None)
        added.train(layer.training)
        layer.added[adapter_name] = added if device is None else added.to(device)
        parent.set_submodule(target_name, layer)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Added weights are float32 from the start."""


class OwnModel(PeftModel):
    """A base with adapters of one of our methods, in the place of one of PEFT's models."""

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The base without its adapters while inside."""
        was_disabled = self._adapters_disabled
        self.base_model._enable_adapter_layers(enabled=False)
        self._adapters_disabled = True
        try:
            yield
        finally:
            self._adapters_disabled = was_disabled
            if not was_disabled:
                self.base_model._enable_adapter_layers(enabled=True)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *args: Any,
        selected_adapters: list[str] | None = None,
        is_main_process: bool = True,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write each adapter's configuration and its added weights; see ``own_files``."""
        from hf_align.adapters.own_files import save_adapter

        for name in selected_adapters or list(self.peft_config):
            save_adapter(self, name, save_directory, state_dict=state_dict, write=is_main_process)

    @classmethod
    def from_pretrained(
        cls,
        model: torch.nn.Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = "default",
        **kwargs: Any,
    ) -> OwnModel:
        """``model`` with the saved adapter on it; see ``own_files.load_own``."""
        from hf_align.adapters.own_files import load_own

        return load_own(model, model_id, adapter_name, is_trainable=bool(kwargs.get("is_trainable", False)))

    def load_adapter(
        self, model_id: str | os.PathLike[str], adapter_name: str, is_trainable: bool = False, **kwargs: Any
    ) -> Any:
        """Read a saved adapter into the one of that name, which is added where it is not there yet."""
        from hf_align.adapters.own_files import read_adapter

        return read_adapter(self, model_id, adapter_name, is_trainable=is_trainable)


def put_on(
    base: Any,
    method: Method,
    options: Any,
    *,
    task_type: str | None = None,
    modules_to_save: list[str] | None = None,
    adapter_name: str = "default",
) -> OwnModel:
    """``base`` with a new adapter, frozen but for it and for ``modules_to_save``, which are trained in full.

    Raises UserError where the base has no place for the method.
    """
    from hf_align.adapters.fingerprint import base_fingerprint
    from hf_align.adapters.peft_methods import quiet_peft

    register(method)
    config = OwnConfig(
        peft_type=PREFIX + method.name.upper(),
        task_type=task_type,
        base_model_name_or_path=getattr(base, "name_or_path", None),
        options=dataclasses.asdict(options),
        modules_to_save=list(modules_to_save) if modules_to_save else None,
        base=base_fingerprint(base, left_out=modules_to_save or ()),
    )
    with quiet_peft():
        return OwnModel(base, config, adapter_name)


def register(method: Method) -> None:
    """Make a method known to PEFT's tables, under a name that PEFT itself cannot have."""
    kind = PREFIX + method.name.upper()
    PEFT_TYPE_TO_CONFIG_MAPPING[kind] = OwnConfig
    PEFT_TYPE_TO_TUNER_MAPPING[kind] = OwnTuner


def find_method(config: OwnConfig) -> Method:
    """The entry of ``methods.METHODS`` that an adapter was made by."""
    from hf_align.adapters.methods import METHODS

    return METHODS[config.method]


def own_layers(model: torch.nn.Module) -> dict[str, OwnLayer]:
    """The layers that carry added weights, by their path in ``model``."""
    return {name: module for name, module in model.named_modules() if isinstance(module, OwnLayer)}


@contextlib.contextmanager
def _taken_off(model: torch.nn.Module) -> Iterator[None]:
    """The base as it is without the layers of earlier adapters, so that a method finds the same places."""
    layers = own_layers(model)
    for path, layer in reversed(list(layers.items())):
        model.set_submodule(path, layer.base_layer)
    try:
        yield
    finally:
        for path, layer in layers.items():
            model.set_submodule(path, layer)
