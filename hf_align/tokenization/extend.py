"""Adds to a tokenizer the tokens that it lacks for a new text; text without them keeps its ids exactly.

How depends on the model. BPE gets merges behind its own (``extend_merges``), Unigram and WordPiece get
entries (``extend_entries``). Added tokens, the usual way, are not used: they are cut out of a text before
everything else, wherever their letters stand, so that words around them are split where they never were; and
a byte-level decoder reads an added token whose letters all stand for bytes ("über", "naïve") as those bytes,
so that the text does not come back. The embeddings of the new tokens are the business of
``hf_align.modeling.new_tokens``.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_align.data.chat.templates import require_fast
from hf_align.errors import UserError
from hf_align.tokenization.alphabet import Texts
from hf_align.types.tokens import Extension, NewToken

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from hf_align.tokenization.recipe import ExtendOptions


TOKENIZER_FILE = "tokenizer.json"


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    options: ExtendOptions,
    *,
    min_frequency: int = 2,
    show_progress: bool = True,
) -> Extension:
    """``tokenizer`` with up to ``options.new_tokens`` tokens more, learned from ``texts()``.

    The same texts give the same tokens on every run. ``tokenizer`` itself is not changed.

    Raises UserError for a slow tokenizer, for a model of another kind, and where nothing is to be added.
    """
    from hf_align.tokenization.extend_entries import add_entries
    from hf_align.tokenization.extend_merges import add_merges

    require_fast(tokenizer)
    backend: Tokenizer = tokenizer.backend_tokenizer
    kind = type(backend.model).__name__
    ways: dict[str, Any] = {"BPE": add_merges, "Unigram": add_entries, "WordPiece": add_entries}
    if kind not in ways:
        raise UserError(
            f"extend: the tokenizer is of the kind {kind}, which cannot be extended; expected one of "
            f"{', '.join(ways)}."
        )
    first_id = max(backend.get_vocab(with_added_tokens=True).values()) + 1
    state, tokens = ways[kind](
        backend, texts, options, first_id=first_id, min_frequency=min_frequency, show_progress=show_progress
    )
    if not tokens:
        limits = " of other than ASCII characters" if options.new_tokens_from == "non_ascii" else ""
        raise UserError(
            f"extend: the text has no token{limits} to add: nothing in it that takes several tokens occurs "
            f"{min_frequency} times. Give more text, or another (see new_tokens_from)."
        )
    return Extension(_reloaded(tokenizer, state, tokens, first_id), first_id, tokens)


def unextended(tokenizer: PreTrainedTokenizerBase) -> Extension:
    """A copy of ``tokenizer`` without new tokens, to which special ones may be added.

    Raises UserError for a slow tokenizer.
    """
    require_fast(tokenizer)
    made: Any = copy.deepcopy(tokenizer)
    return Extension(made, max(tokenizer.get_vocab().values()) + 1, [])


def _reloaded(
    tokenizer: PreTrainedTokenizerBase, state: dict[str, Any], tokens: Sequence[NewToken], first_id: int
) -> PreTrainedTokenizerFast:
    """The tokenizer with ``state`` in place of its own, as a later run will load it."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="hf_align-") as folder:
        tokenizer.save_pretrained(folder)
        for path in Path(folder).iterdir():
            # Vocabularies in older formats would be those of the old tokenizer.
            if path.suffix not in (".json", ".jinja") or path.name == "vocab.json":
                path.unlink()
        text = json.dumps(state, ensure_ascii=False)
        (Path(folder) / TOKENIZER_FILE).write_text(text, encoding="utf-8")
        extended: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    expected = list(range(first_id, first_id + len(tokens)))
    found = extended.convert_tokens_to_ids([token.token for token in tokens])
    if found != expected or json.loads(extended.backend_tokenizer.to_str())["model"] != state["model"]:
        raise UserError(
            f"extend: transformers loads {type(tokenizer).__name__} in a way that changes an extended "
            "vocabulary; this tokenizer cannot be extended."
        )
    return extended
