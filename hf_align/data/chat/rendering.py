"""Examples to token rows with target masks: the one place where training text is tokenised.

A conversation's ids are those of ``apply_chat_template(tokenize=True)``: the template writes the text with
its own special tokens, and tokenising adds none, so there is never a second BOS. Targets follow from
character positions (``spans``, ``masking``). Rows without a template are in ``plain``; cutting and dropping
long rows is the business of ``prepare``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hf_align.data.chat.spans import KeepReasoning, Span, find_answers, generation_prefix, render_with_answers
from hf_align.data.chat.templates import ChatFormat, chat_format, require_fast
from hf_align.data.conversion.formats import FORMATS
from hf_align.data.encoding import RowEncoder
from hf_align.data.masking import IdSet, end_of_turn, mask_of_spans, matching_spans
from hf_align.data.plain import asked_text, opening, plain_row, plain_text
from hf_align.data.reading.raw import MalformedRow, tried
from hf_align.data.tokenizing import Tokens, tokenize, with_whole_offsets
from hf_align.errors import UserError
from hf_align.types import Example, Message, TokenizedRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TrainOn = Literal["assistant", "last", "all"]

_PROBES = (
    (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")),
    (Message("user", "a"), Message("assistant", "b")),
)


@dataclass(frozen=True)
class Encoder(RowEncoder):
    """Turns examples into token rows. Made by ``make_encoder``, which explains the options.

    ``whole``: the tokenizer with offsets that leave no character out, see ``with_whole_offsets``.
    ``special``: the ids of all special tokens; ``ends_turn``: of those that may end a turn.
    """

    tokenizer: PreTrainedTokenizerBase
    whole: PreTrainedTokenizerBase
    train_on: TrainOn
    add_eos: bool
    require_end_of_turn: bool
    keep_reasoning: KeepReasoning | None
    patterns: tuple[re.Pattern[str], ...]
    special: IdSet
    ends_turn: IdSet
    weighs: bool = False
    _checked: dict[str, ChatFormat] = field(default_factory=dict, repr=False)
    _written: set[str] = field(default_factory=set, repr=False)

    formats = FORMATS
    rows = TokenizedRow
    joins_prompts = True

    def encode(self, examples: Sequence[Example]) -> list[TokenizedRow | MalformedRow]:
        conversations = [i for i, example in enumerate(examples) if example.messages is not None]
        plain = [i for i, example in enumerate(examples) if example.messages is None]
        results: dict[int, TokenizedRow | MalformedRow] = {}
        for indices, encode in ((conversations, self._encode_conversations), (plain, self._encode_plain)):
            if indices:
                results.update(zip(indices, encode([examples[i] for i in indices]), strict=True))
        return [results[i] for i in range(len(examples))]

    def _encode_conversations(self, examples: Sequence[Example]) -> list[TokenizedRow | MalformedRow]:
        chat = self._checked_chat_format()
        rendered = [tried(self._rendered, chat.for_row(each.template), each.messages) for each in examples]
        texts = [item[0] for item in rendered if not isinstance(item, MalformedRow)]
        encoded = iter(tokenize(self.whole, texts, add_special_tokens=False) if texts else ())
        return [
            item if isinstance(item, MalformedRow) else tried(self._row_of, each, next(encoded), *item)
            for each, item in zip(examples, rendered, strict=True)
        ]

    def _rendered(self, chat: ChatFormat, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        text, spans = render_with_answers(chat, messages, self.keep_reasoning)
        self._check_tools(chat, messages, text)
        return text, spans

    def _check_tools(self, chat: ChatFormat, messages: Sequence[Message], text: str) -> None:
        """Raise ``MalformedRow`` for a tool that the template left out of ``text``.

        Its name may stand in a call all the same, so that the conversation without tools is looked at too,
        once for each list of tools.
        """
        tools = chat.options.get("tools", ())
        if not tools or (listed := json.dumps(tools)) in self._written:
            return
        names = [str(tool.get("function", tool).get("name", "")) for tool in tools]
        missing = next((name for name in names if name not in text), None)
        if missing is None:
            without = {key: value for key, value in chat.options.items() if key != "tools"}
            same = replace(chat, options=without).render(messages) == text
            missing = names[0] if same else None
        if missing is not None:
            raise MalformedRow(
                f"tools: the chat template does not write the tool {missing!r}; use one that does, such as "
                "`chat_template_path: hermes`",
                "tools",
            )
        self._written.add(listed)

    def _row_of(self, example: Example, tokens: Tokens, text: str, spans: Sequence[Span]) -> TokenizedRow:
        answers = [turn for turn in example.messages or () if turn.role == "assistant"]
        pairs = list(zip(answers, spans, strict=True))
        pairs = pairs[-1:] if self.train_on == "last" else pairs
        spans = [span for turn, span in pairs if turn.trained]
        targets = spans
        if self.patterns:
            targets = matching_spans(text, spans, self.patterns)
            # The token that ends a turn belongs to what stands before it.
            spans = [span for span in spans if any(end == span[1] for _, end in targets)]
        mask = mask_of_spans(tokens.offsets, self.special.has(tokens.ids), targets)
        for number, closing in enumerate(self._closings(text, spans, tokens), start=1):
            if closing is not None:
                mask[closing.start : closing.stop] = True
            elif self.require_end_of_turn:
                raise MalformedRow(f"no end-of-turn token follows trained answer {number}")
        mask = np.ones(len(mask), dtype=bool) if self.train_on == "all" else mask
        return _row(tokens.ids, mask, example)

    def _closings(self, text: str, spans: Sequence[Span], tokens: Tokens) -> list[range | None]:
        """The tokens that end each answer, see ``masking.end_of_turn``."""
        ends_turn = self.ends_turn.has(tokens.ids)
        is_eos = tokens.ids == self.tokenizer.eos_token_id
        return [end_of_turn(text, tokens.offsets, ends_turn, is_eos, end) for _, end in spans]

    def _encode_plain(self, examples: Sequence[Example]) -> list[TokenizedRow | MalformedRow]:
        eos, bos = self.tokenizer.eos_token_id, self.tokenizer.bos_token_id
        if self.add_eos and eos is None:
            raise UserError(
                "add_eos: the tokenizer has no end-of-sequence token to end completions and texts with. "
                "Set `add_eos: false`, or give the tokenizer an eos_token."
            )
        texts = [plain_text(example) for example in examples]
        ends: Any = {"bos": bos, "eos": eos if self.add_eos else None, "patterns": self.patterns}
        row = partial(plain_row, all_targets=self.train_on == "all", **ends)
        encoded = tokenize(self.whole, texts, add_special_tokens=True)
        return [
            _row(*row(example, tokens, self.special.has(tokens.ids)), example)
            for example, tokens in zip(examples, encoded, strict=True)
        ]

    def _checked_chat_format(self) -> ChatFormat:
        """The tokenizer's chat format, checked once for an end-of-turn token after an answer."""
        template = str(self.tokenizer.chat_template)
        if template not in self._checked:
            chat = chat_format(self.tokenizer)
            if self.require_end_of_turn:
                self._require_end_of_turn(chat)
            self._checked[template] = chat
        return self._checked[template]

    def _require_end_of_turn(self, chat: ChatFormat) -> None:
        for messages in _PROBES:
            try:
                text, spans = render_with_answers(chat, messages)
            except MalformedRow:
                continue  # the template has another idea of a conversation; each row is checked anyway
            tokens = tokenize(self.whole, [text], add_special_tokens=False)[0]
            if not any(self._closings(text, spans, tokens)):
                raise UserError(
                    "require_end_of_turn: the chat template writes no end-of-turn token after an answer, so "
                    f"a model trained on it never learns to stop. It renders {_shortened(text)}, in which no "
                    "special token of the tokenizer follows the answer. Use a template that ends each answer "
                    "with eos_token (for example `chat_template_path: alpaca`), make the token that it "
                    "writes a special token of the tokenizer, or set `require_end_of_turn: false`."
                )
            return


def make_encoder(
    tokenizer: PreTrainedTokenizerBase,
    *,
    train_on: TrainOn = "assistant",
    add_eos: bool = True,
    require_end_of_turn: bool = True,
    keep_reasoning: KeepReasoning | None = None,
    patterns: Sequence[str] = (),
    weighs: bool = False,
) -> Encoder:
    """An encoder for a fast tokenizer.

    ``train_on``: targets are all answers of a conversation, its last answer, or every token; a completion
    counts as an answer, and of a text every token is a target. ``add_eos`` ends completions and texts with
    EOS. ``require_end_of_turn``: a trained answer without an end-of-turn token makes its row malformed, and a
    template that never writes one is a ``UserError``. ``keep_reasoning``: see ``spans``.
    ``patterns``: regular expressions; only what they match of the targets is one, and the end of a turn or a
    text only behind a match. ``weighs``: whether rows may have weights.

    Errors: ``UserError`` for a slow tokenizer.
    """
    require_fast(tokenizer)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    # A BOS after an answer opens the next turn; it does not close this one.
    opens_turn = {tokenizer.bos_token_id} - {tokenizer.eos_token_id}
    return Encoder(
        tokenizer=tokenizer,
        whole=with_whole_offsets(tokenizer),
        train_on=train_on,
        add_eos=add_eos,
        require_end_of_turn=require_end_of_turn,
        keep_reasoning=keep_reasoning,
        patterns=tuple(map(re.compile, patterns)),
        special=IdSet(special),
        ends_turn=IdSet(special - opens_turn),
        weighs=weighs,
    )


def render_prompt(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[str, str]:
    """(the prompt as text up to the answer, that answer as the row has it), for a sample generation.

    A conversation that ends with another turn than the assistant's is asked whole, and has an empty answer.
    Its prompt ends with the template's generation prompt and holds all special tokens: tokenise it with
    ``add_special_tokens=False``. A plain prompt is asked up to the white space that its answer takes along
    (``asked_text``), which the answer then begins with. A text has no prompt: its prompt is empty, its
    reference the whole text. ``prompt_ids`` gives the matching ids for every kind.

    Errors: ``MalformedRow`` where the template refuses the conversation or the answer is not found.
    """
    if example.text is not None:
        return "", example.text
    if example.messages is None:
        asked = asked_text(tokenizer, example.prompt or "")
        return asked, ((example.prompt or "") + (example.completion or ""))[len(asked) :]
    chat = chat_format(tokenizer).for_row(example.template)
    if not example.answered:
        return chat.render(example.messages, add_generation_prompt=True), ""
    text, spans = find_answers(chat, example.messages)
    start, end = spans[-1]
    asked = generation_prefix(chat, example.messages, len(example.messages) - 1)
    if asked is None or not chat.generation_prompt:
        return text[:start], text[start:end]
    # What the template writes where it asks, also where a stored answer stands behind something else.
    return asked, text[max(start, len(asked)) if text.startswith(asked) else start : end]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, example: Example) -> list[int]:
    """The token ids of ``render_prompt``'s prompt, with exactly the BOS that training rows have."""
    prompt, _ = render_prompt(tokenizer, example)
    plain = example.messages is None
    tokens = tokenize(tokenizer, [prompt], add_special_tokens=plain)[0]
    if not plain:
        return [int(i) for i in tokens.ids]
    if not prompt:  # only the BOS, where the tokenizer adds one
        return [int(i) for i in tokens.ids[:1] if i == tokenizer.bos_token_id]
    head, start, stop = opening(tokens, tokenizer.bos_token_id)
    return [int(i) for i in np.concatenate((head, tokens.ids[start:stop]))]


def _row(ids: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_], example: Example) -> TokenizedRow:
    mask[:1] = False  # nothing comes before the first token that could predict it
    return TokenizedRow(ids, mask, example.source, example.weight)


def _shortened(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 200 else shown[:120] + " … " + shown[-70:]
