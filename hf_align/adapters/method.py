"""What an adapter method of this package is: where it adds weights, and how they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


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
