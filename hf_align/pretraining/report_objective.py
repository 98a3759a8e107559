"""One batch of a pre-training objective, token by token: as an HTML page, and in colours for a terminal.

Each example is shown as the figures of the papers show theirs: what the model reads, what it is to write, and
what happened to every token on the way. The batch is the collator's own; ``data.collators.show`` puts the
same into plain words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from hf_align.pretraining.collators import Collator, SpanCorruptionCollator, objective
from hf_align.pretraining.collators.show import TokenDecoder, border_facts, document_starts
from hf_align.reporting.token_view import token_texts, visible, visible_html
from hf_align.types import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = npt.NDArray[Any]

KINDS = {
    "mask": "stands for what is hidden; a token below it is to be predicted in its place",
    "random": "replaced by a random token",
    "kept": "left as it is, and predicted all the same",
    "edge": "borders of a span, from which its tokens are predicted once more",
    "gone": "taken out of the text",
    "sentinel": "stands for a span, the same one in inputs and targets",
    "written": "to be predicted",
    "read": "read, and not predicted",
    "second": "second segment",
    "special": "special token",
}
"""What can have happened to a token, in the order of the legend."""

_STYLES = {
    "mask": "1;36",
    "random": "1;33",
    "kept": "1;32",
    "edge": "4",
    "gone": "9;31",
    "sentinel": "1;35",
    "written": "36",
    "read": "2",
    "second": "34",
    "special": "2",
}


class Token(NamedTuple):
    """A token as text, what happened to it (keys of ``KINDS``), what it hides, and the number of its span."""

    text: str
    kinds: tuple[str, ...] = ()
    hides: str = ""
    span: int = 0


class ExampleLine(NamedTuple):
    """One line of a figure: its name and its tokens, or words."""

    name: str
    tokens: tuple[Token, ...] = ()
    words: str = ""


def example_lines(
    name: str, tokenizer: PreTrainedTokenizerBase, collator: Collator, examples: Sequence[dict[str, Any]]
) -> list[list[ExampleLine]]:
    """For each example of the objective ``name`` the lines of its figure."""
    look = _Examples(tokenizer, collator)
    chosen = objective(name)
    draw: Callable[[dict[str, Any]], list[ExampleLine]] = {
        "encoder": look.hidden,
        "encoder_decoder": look.rewritten,
        "decoder": look.continued,
    }[chosen.architecture]
    found = []
    for example in examples:
        # One at a time: then no padding has to be told apart from text.
        batch = {key: tensor[0].numpy() for key, tensor in collator([example]).items()}
        lines = draw(batch)
        if "first" not in example and chosen.architecture != "decoder" and lines[0].name != "text":
            lines.insert(0, ExampleLine("text", tuple(look.tokens(np.array(example["input_ids"])))))
        found.append(lines)
    return found


class _Examples:
    """The three kinds of figures, for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, collator: Collator) -> None:
        self.tokenizer = tokenizer
        self.decode = TokenDecoder(tokenizer)
        self.mask = tokenizer.mask_token_id
        self.sentinels: dict[int, int] = {}
        if isinstance(collator, SpanCorruptionCollator):
            self.sentinels = {id: number for number, id in enumerate(collator.vocabulary.sentinels.tolist())}

    def tokens(
        self, ids: Ids, kinds: Sequence[tuple[str, ...]] = (), hides: Sequence[str] = (), spans: Any = None
    ) -> list[Token]:
        """``ids`` (L,) with what happened to each; a character of several tokens stands at the first."""
        found: list[Token] = []
        for length, text in token_texts(ids.tolist(), self.tokenizer):
            at = len(found)
            for place in range(at, at + length):
                own = kinds[place] if len(kinds) else ()
                id = int(ids[place])
                if id in self.decode.special and not own:
                    own = ("special",)
                shown = text if place == at else ""
                span = int(spans[place]) if spans is not None else 0
                found.append(Token(shown, own, hides[place] if len(hides) else "", span))
        return found

    def hidden(self, batch: dict[str, Ids]) -> list[ExampleLine]:
        """What an encoder reads, with what each chosen token hides."""
        ids, labels = batch["input_ids"], batch["labels"]
        chosen = labels != IGNORE_INDEX
        second = batch["token_type_ids"] == 1 if "token_type_ids" in batch else np.zeros(len(ids), bool)
        edges: set[int] = set()
        if "span_position" in batch:
            edges = {*batch["left_boundary"][chosen].tolist(), *batch["right_boundary"][chosen].tolist()}
        kinds, hides = [], []
        for place, (id, label) in enumerate(zip(ids.tolist(), labels.tolist(), strict=True)):
            own = [] if label == IGNORE_INDEX else [self._what_became(id, label)]
            own += ["edge"] * (place in edges) + ["second"] * bool(second[place])
            kinds.append(
                (*own, "special") if id in self.decode.special and label == IGNORE_INDEX else (*own,)
            )
            hides.append("" if label == IGNORE_INDEX else self.decode.token(label))
        lines = [ExampleLine("inputs", tuple(self.tokens(ids, kinds, hides)))]
        return [
            *lines,
            *(ExampleLine(name, words=words) for name, words in border_facts(self.decode, batch).items()),
        ]

    def _what_became(self, id: int, label: int) -> str:
        return "mask" if id == self.mask else "kept" if id == label else "random"

    def rewritten(self, batch: dict[str, Ids]) -> list[ExampleLine]:
        """Corrupted source against target; where spans have sentinels, the text with the spans marked."""
        inputs, targets = batch["input_ids"], batch["labels"]
        lines = [
            ExampleLine("inputs", self._side(inputs)),
            ExampleLine("targets", self._side(targets, "written")),
        ]
        return [self._text(inputs, targets), *lines] if self.sentinels else lines

    def _text(self, inputs: Ids, targets: Ids) -> ExampleLine:
        """The text, from inputs and targets of span corruption."""
        spans: dict[int, list[int]] = {}
        for id in targets.tolist():
            if id in self.sentinels:
                spans[id] = []
            elif spans and id not in self.decode.special:
                spans[[*spans][-1]].append(id)
        found: list[tuple[int, tuple[str, ...], int]] = []
        for id in inputs.tolist():
            if id in spans:
                found += [(hidden, ("gone",), self.sentinels[id]) for hidden in spans[id]]
            elif id not in self.decode.special:
                found.append((id, (), 0))
        ids, kinds, numbers = zip(*found, strict=True)
        return ExampleLine("text", tuple(self.tokens(np.array(ids), kinds, spans=numbers)))

    def _side(self, ids: Ids, other: str = "") -> tuple[Token, ...]:
        """Inputs or targets: sentinels and masks, and everything else as ``other``."""
        kinds: list[tuple[str, ...]] = []
        spans = []
        span = 0
        for id in ids.tolist():
            if id in self.sentinels:
                span = self.sentinels[id]
                kinds.append(("sentinel",))
            elif id == self.mask:
                kinds.append(("mask",))
            else:
                kinds.append((other,) if other else ())
            spans.append(span)
        return tuple(self.tokens(ids, kinds, spans=spans))

    def continued(self, batch: dict[str, Ids]) -> list[ExampleLine]:
        """What a decoder only reads, and what it predicts; documents that do not see each other apart."""
        ids, labels = batch["input_ids"], batch["labels"]
        kinds = [("read",) if label == IGNORE_INDEX else ("written",) for label in labels.tolist()]
        parts = np.split(np.arange(len(ids)), document_starts(batch)[1:])
        names = ["row"] if len(parts) == 1 else [f"document {number}" for number in range(1, len(parts) + 1)]
        return [
            ExampleLine(name, tuple(self.tokens(ids[part], [kinds[place] for place in part])))
            for name, part in zip(names, parts, strict=True)
        ]


def lines_terminal(lines: Sequence[ExampleLine]) -> str:
    """The lines of one example with ANSI colours; what a token hides stands behind it."""
    shown = []
    width = max(len(line.name) for line in lines) + 2
    for line in lines:
        parts = [line.words]
        for token in line.tokens:
            styles = [_STYLES[kind] for kind in token.kinds]
            text = visible(token.text).replace("\n", " ") + (f"→{token.hides}" if token.hides else "")
            parts.append(f"\x1b[{';'.join(styles)}m{text}\x1b[0m" if styles and text else text)
        shown.append(f"{line.name:<{width}}{''.join(parts)}")
    return "\n".join(shown)


def render_page(name: str, examples: Sequence[Sequence[ExampleLine]], report: Any) -> str:
    """One self-contained page that shows the examples of a batch, with the data report.

    ``report``: a DataReport, its dictionary, or None.
    """
    from hf_align.reporting.data_view import data_view
    from hf_align.reporting.page import render_template

    to_dict = getattr(report, "to_dict", None)
    present = {kind for lines in examples for line in lines for token in line.tokens for kind in token.kinds}
    return render_template(
        "pretraining/objective.html.jinja",
        title=name,
        chosen=objective(name),
        examples=[
            [(line.name, line.words, tokens_as_html(line.tokens)) for line in lines] for lines in examples
        ],
        legend=[(kind, words) for kind, words in KINDS.items() if kind in present],
        data=data_view(to_dict() if callable(to_dict) else report),
    )


def tokens_as_html(tokens: Sequence[Token]) -> Markup:
    """A ``span`` for each token to which something happened, with what it hides below it."""
    parts = []
    for token in tokens:
        text = visible_html(token.text)
        if token.hides:
            text = Markup("<ruby>{}<rt>{}</rt></ruby>").format(text, token.hides)
        if token.kinds and token.text:
            names = [*token.kinds, *([f"s{token.span % 4}"] if {"gone", "sentinel"} & {*token.kinds} else [])]
            text = Markup('<span class="{}">{}</span>').format(" ".join(names), text)
        parts.append(text)
    return Markup("").join(parts)
