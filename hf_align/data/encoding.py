"""What an encoder is: examples of one kind in, token rows of one kind out.

A stage differs from others in its encoder alone: which formats it reads, and which rows it makes of them.
Everything else from a source to rows (``pipeline``, ``prepare``, ``store``) is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hf_align.data.conversion.formats import Table
from hf_align.types import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RowEncoder(ABC):
    """Makes rows of examples; may be sent to another process.

    ``formats``: those of its examples. ``rows``: the class of its rows. ``tokenizer``: of the model.
    ``weighs``: whether the weights of examples count; they are refused otherwise. ``joins_prompts``: whether
    plain prompts and their answers become one text.
    """

    formats: ClassVar[Table]
    rows: ClassVar[type[Row]]
    tokenizer: PreTrainedTokenizerBase
    weighs = False
    joins_prompts: ClassVar[bool] = False

    @abstractmethod
    def encode(self, examples: Sequence[Any]) -> list[Any]:
        """A row of the class ``rows``, or the ``MalformedRow`` that says why there is none, for each example.

        Errors: ``UserError`` where the tokenizer cannot serve examples of this kind.
        """

    def cut(self, row: Any, example: Any, length: int) -> Any:
        """The row of ``example`` with at most ``length`` tokens in each of its sequences."""
        return row.cut(length)

    def identity(self) -> list[Any]:
        """What tells the rows from those of another encoder of the same tokenizer and options of the data."""
        return [type(self).__name__]
