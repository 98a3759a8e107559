"""Embeddings for tokens that a vocabulary has been extended by: where they start, and which rows they are.

Each new row of the input embeddings, and of the output head where it has weights of its own, starts as the
mean of the rows of the tokens that it took before (subword averaging; Hewitt 2021 gives the reasons for a
mean). Heads that are tied to the embeddings stay tied. Training is elsewhere; PEFT's
``trainable_token_indices`` trains exactly these rows beside an adapter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from hf_align.config.local_paths import check_local
from hf_align.errors import UserError
from hf_align.modeling.loading import check_vocabulary, first_line
from hf_align.types.tokens import Extension, NewToken

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Start = Literal["subtokens", "mean", "random"]
NEW_TOKENS_FILE = "new_tokens.json"


def add_embeddings(
    model: PreTrainedModel, extension: Extension, *, start: Start = "subtokens", seed: int = 42
) -> None:
    """Give ``model`` rows for the tokens of ``extension``, in place; old rows keep every bit.

    ``start``: ``subtokens``, the mean of the token's old pieces (of all old rows for a token without any);
    ``mean``, of all old rows; ``random``, normal with the model's ``initializer_range`` and ``seed``. Old
    rows are those of the old tokenizer: rows that pad the matrix to a round size hold nothing and are used.
    Means are computed in float32. A bias of the head is averaged likewise, or starts at zero.
    """
    first, count = extension.first_id, len(extension.tokens)
    embeddings = model.get_input_embeddings()
    if first + count > embeddings.weight.shape[0]:
        model.resize_token_embeddings(first + count, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    spread = getattr(model.config.get_text_config(), "initializer_range", None) or 0.02
    head = model.get_output_embeddings()
    tensors = [model.get_input_embeddings().weight]
    if head is not None:
        tensors += [tensor for tensor in (head.weight, getattr(head, "bias", None)) if tensor is not None]
    with torch.no_grad():
        for tensor in {id(tensor): tensor for tensor in tensors}.values():  # once where they are tied
            old = tensor[:first]
            tensor[first : first + count] = _rows(old, extension.tokens, start, generator, spread)


def _rows(
    old: torch.Tensor, tokens: Sequence[NewToken], start: Start, generator: torch.Generator, spread: float
) -> torch.Tensor:
    """(new, …) rows in the type of ``old`` (rows, …)."""
    shape = (len(tokens), *old.shape[1:])
    if start == "random":
        if old.dim() == 1:
            return old.new_zeros(shape)
        return (spread * torch.randn(shape, generator=generator)).to(old)
    mean = old.float().mean(0)
    rows = mean.expand(shape).clone()
    if start == "subtokens":
        for place, token in enumerate(tokens):
            if token.pieces:
                rows[place] = old[list(token.pieces)].float().mean(0)
    return rows.to(old)


def load_model_to_extend(name: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model in ``name`` with its own head and number format.

    Raises UserError where it cannot be loaded or has no embeddings for ``tokenizer``.
    """
    import transformers

    check_local("extend", name)
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        kind = getattr(transformers, next(iter(config.architectures or ["AutoModel"])), None)
        model = (kind or transformers.AutoModel).from_pretrained(name, dtype="auto", use_safetensors=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"extend: no model could be loaded from '{name}': {first_line(error)}") from error
    if getattr(model, "is_quantized", False):
        raise UserError(
            f"extend: '{name}' is quantised; its embeddings cannot grow. Extend the original model."
        )
    check_vocabulary(model, tokenizer)
    return model


def has_weights(name: str) -> bool:
    """Whether a folder holds a model beside the tokenizer; a hub id is taken to."""
    folder = Path(name)
    return not folder.is_dir() or any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def save_extended(folder: Path, extension: Extension, model: PreTrainedModel | None) -> None:
    """Write the tokenizer, the model with its new rows, and which ids are new, all into one folder."""
    extension.tokenizer.save_pretrained(folder)
    if model is not None:
        model.save_pretrained(folder)
    first, count = extension.first_id, len(extension.tokens)
    facts: dict[str, Any] = {"first_id": first, "count": count}
    facts["tokens"] = [token.token for token in extension.tokens]
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    (folder / NEW_TOKENS_FILE).write_text(text + "\n", encoding="utf-8")


def new_token_ids(folder: str | Path) -> list[int]:
    """The ids of the new tokens of an extended model, from the file that ``save_extended`` wrote beside it.

    For PEFT: ``trainable_token_indices`` takes them. Raises UserError where the file is missing or broken.
    """
    path = Path(folder) / NEW_TOKENS_FILE
    try:
        facts = json.loads(path.read_bytes())
        return list(range(int(facts["first_id"]), int(facts["first_id"]) + int(facts["count"])))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected the folder of a model that `hf-align "
            "tokenizer` has extended."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected first_id and count of the new tokens.") from error
