"""A base with adapters of one of our methods, as a ``peft.PeftModel``: made, saved, loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from hf_align.adapters.custom.files import CONFIG_FILE, check_base, read_config, read_weights, save_adapter
from hf_align.adapters.custom.layers import PREFIX, CustomConfig, register
from hf_align.adapters.fingerprint import base_fingerprint
from hf_align.adapters.method import Method
from hf_align.adapters.peft_methods import quiet_peft
from hf_align.errors import UserError


class CustomModel(PeftModel):
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
        """Write each adapter's configuration and its added weights; see ``files``."""
        for name in selected_adapters or list(self.peft_config):
            save_adapter(self, name, save_directory, state_dict=state_dict, write=is_main_process)

    @classmethod
    def from_pretrained(
        cls,
        model: torch.nn.Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = "default",
        **kwargs: Any,
    ) -> CustomModel:
        """``model`` with the saved adapter on it; see ``files.load_custom``."""
        pass

        return load_custom(
            model, model_id, adapter_name, is_trainable=bool(kwargs.get("is_trainable", False))
        )

    def load_adapter(
        self, model_id: str | os.PathLike[str], adapter_name: str, is_trainable: bool = False, **kwargs: Any
    ) -> Any:
        """Read a saved adapter into the one of that name, which is added where it is not there yet."""
        pass

        return read_adapter(self, model_id, adapter_name, is_trainable=is_trainable)


def add_adapter(
    base: Any,
    method: Method,
    options: Any,
    *,
    task_type: str | None = None,
    modules_to_save: list[str] | None = None,
    adapter_name: str = "default",
) -> CustomModel:
    """``base`` with a new adapter, frozen but for it and for ``modules_to_save``, which are trained in full.

    Raises UserError where the base has no place for the method.
    """
    register(method)
    config = CustomConfig(
        peft_type=PREFIX + method.name.upper(),
        task_type=task_type,
        base_model_name_or_path=getattr(base, "name_or_path", None),
        options=dataclasses.asdict(options),
        modules_to_save=list(modules_to_save) if modules_to_save else None,
        base=base_fingerprint(base, left_out=modules_to_save or ()),
    )
    with quiet_peft():
        return CustomModel(base, config, adapter_name)


def load_custom(
    base: Any, folder: str | os.PathLike[str], adapter_name: str = "default", *, is_trainable: bool = False
) -> CustomModel:
    """``base`` with the adapter saved in ``folder`` on it, frozen unless ``is_trainable``.

    Raises UserError where the adapter was trained on another base or its files are not whole.
    """
    config = read_config(folder)
    check_base(config, base, folder)
    config.inference_mode = not is_trainable
    with quiet_peft():
        model = CustomModel(base, config, adapter_name)
    read_weights(model, folder, adapter_name)
    return model if is_trainable else model.eval()


def read_adapter(
    model: CustomModel, folder: str | os.PathLike[str], adapter_name: str, *, is_trainable: bool = False
) -> None:
    """Read a saved adapter into ``model``, under a name that it has already or a new one."""
    config = read_config(folder)
    if adapter_name in model.peft_config:
        known: CustomConfig = model.peft_config[adapter_name]
        if (known.peft_type, known.options) != (config.peft_type, config.options):
            raise UserError(
                f"{Path(folder) / CONFIG_FILE}: this adapter was made with {config.method} "
                f"{config.options}; expected {known.method} {known.options}"
            )
    else:
        check_base(config, model.get_base_model(), folder)
        config.inference_mode = not is_trainable
        model.add_adapter(adapter_name, config)
    read_weights(model, folder, adapter_name)
