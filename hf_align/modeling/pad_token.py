"""A pad token of its own for a model whose scores are read at the last token that is not padding.

transformers' sequence classifiers find the end of a sequence by the pad id. Where that is also the
end-of-sequence token, they miss the end. What is chosen here never stands at the end of a sequence.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hf_align.modeling.loading import check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

NEW_TOKEN = "<|pad|>"

# <pad>, [PAD], <|pad|>, <|padding|>, <|fim_pad|>, <|finetune_right_pad_id|>, <｜▁pad▁｜>
_MADE_FOR_PADDING = re.compile(
    r"[<\[][|｜]?▁?(?:finetune_right_|fim_)?pad(?:ding)?(?:_id|_token)?▁?[|｜]?[>\]]", re.IGNORECASE
)
# <|reserved_special_token_0|>, <unused12>, <SPECIAL_20>, <|dummy_1|>, <|placeholder1|>, [control_8]
_RESERVED = re.compile(r"(?:reserved|unused|dummy|placeholder|extra|control|special)\w*\d", re.IGNORECASE)
# Tokens of another kind of input, which a processor writes or a model treats in its own way.
_OTHER_INPUT = re.compile(r"image|video|audio|vision|speech", re.IGNORECASE)


def choose_pad_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """Give ``tokenizer`` and ``model`` a pad token that ends no sequence, in place; returns its id.

    In this order: the pad token that is there, unless it is EOS, BOS or UNK or the chat template writes it; a
    token of the vocabulary that is made for padding; a reserved one; another special token that neither the
    template nor the tokenizer uses; else a new token ``<|pad|>``, for which the embeddings grow by a row if
    they have none to spare. What that row holds never matters, since nothing attends to padding. Raises
    UserError where the tokenizer has tokens without an embedding from the start.
    """
    check_vocabulary(model, tokenizer)
    token = _choose(tokenizer)
    if token is None:
        token = NEW_TOKEN
        tokenizer.add_special_tokens({"pad_token": token})
    if tokenizer.pad_token != token:
        tokenizer.pad_token = token
    pad_id = int(tokenizer.pad_token_id)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        logger.info("the new token %s takes a new row of the embeddings", token)
    set_pad_token(model, pad_id)
    logger.info("padding is %s (id %d)", token, pad_id)
    return pad_id


def set_pad_token(model: PreTrainedModel, pad_id: int) -> None:
    """Write ``pad_id`` into the model's configuration, where its own ``forward`` looks for it."""
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.pad_token_id = pad_id


def _choose(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A token of the vocabulary, or None."""
    template = str(tokenizer.chat_template or "")
    ends = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token}
    own = tokenizer.pad_token
    if own is not None and own not in ends and own not in template:
        return own
    ids = tokenizer.get_vocab()
    named = ends | {tokenizer.sep_token, tokenizer.cls_token, tokenizer.mask_token}

    def free(tokens: Iterable[str]) -> list[str]:
        return sorted((t for t in tokens if t not in named and t not in template), key=ids.__getitem__)

    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    unused = [token for token in free(special) if not _OTHER_INPUT.search(token)]
    made_for_padding = free(token for token in ids if _MADE_FOR_PADDING.fullmatch(token))
    reserved = [token for token in unused if _RESERVED.search(token)]
    return next(iter([*made_for_padding, *reserved, *unused]), None)
