"""Tokenizers trained on a few sentences, and chat templates in the styles of well-known model families.

Each family comes twice: as a Jinja template, and as a Python function that writes the same text by plain
concatenation and so knows where the answers stand.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from importlib import resources

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hf_align.types import Message

SPECIAL = (
    "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>",
)  # fmt: skip
CORPUS = [
    "Hello there, how are you today? I am fine, thank you.",
    "What is 12 + 30? It is 42.\n\nAnd then? Nothing else  happens.",
    "user assistant system model human instruction response",
    "你好,世界。今天天气很好,我们去公园吧。",
    "def double(x):\n    return 2 * x\n",
]


@functools.cache
def _byte_level(trim_offsets: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(SPECIAL)
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@functools.cache
def _sentencepiece(prefix_every_segment: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    # Few merges, so that much of the Chinese text falls back to bytes, like any emoji.
    trainer = trainers.BpeTrainer(
        vocab_size=430,
        limit_alphabet=70,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # The byte tokens were special only so that the trainer would keep them; now they are ordinary ones.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [
        token for token in content["added_tokens"] if not token["content"].startswith("<0x")
    ]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if prefix_every_segment:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # As Llama's: the tokenizer adds a BOS by itself.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def byte_level_tokenizer(
    template: str | None = None, *, trim_offsets: bool = True, bos: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2's and Qwen's; with ``bos`` as Llama 3's, which adds one by itself."""
    tokenizer = _with_template(_byte_level(trim_offsets), template)
    if bos:
        tokenizer.backend_tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=trim_offsets),
                processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)]),
            ]
        )
    return tokenizer


def sentencepiece_tokenizer(
    template: str | None = None, *, prefix_every_segment: bool = False
) -> PreTrainedTokenizerFast:
    """BPE on word-start marks with byte fallback, as Llama 2's; it adds a BOS by itself."""
    return _with_template(_sentencepiece(prefix_every_segment), template)


def _with_template(tokenizer: PreTrainedTokenizerFast, template: str | None) -> PreTrainedTokenizerFast:
    fresh = copy.deepcopy(tokenizer)
    fresh.chat_template = template
    added = [token for token in SPECIAL if token not in ("<s>", "</s>", "<unk>")]
    fresh.add_special_tokens({"additional_special_tokens": added})
    return fresh


Written = tuple[str, list[tuple[int, int]], list[str]]
"""Text, the span of each answer, and the end-of-turn token after each."""


class _Writer:
    """Concatenates pieces and notes where the answers are."""

    def __init__(self) -> None:
        self.text = ""
        self.spans: list[tuple[int, int]] = []
        self.ends: list[str] = []

    def add(self, text: str) -> _Writer:
        self.text += text
        return self

    def answer(self, text: str, end: str) -> _Writer:
        self.spans.append((len(self.text), len(self.text) + len(text)))
        self.ends.append(end)
        self.text += text + end
        return self

    def done(self) -> Written:
        return self.text, self.spans, self.ends


def write_chatml(messages: list[Message]) -> Written:
    writer = _Writer()
    for message in messages:
        writer.add(f"<|im_start|>{message.role}\n")
        if message.role == "assistant":
            writer.answer(message.content, "<|im_end|>").add("\n")
        else:
            writer.add(f"{message.content}<|im_end|>\n")
    return writer.done()


LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


def write_llama3(messages: list[Message]) -> Written:
    writer = _Writer().add("<|begin_of_text|>")
    for message in messages:
        writer.add(f"<|start_header_id|>{message.role}<|end_header_id|>\n\n")
        if message.role == "assistant":
            writer.answer(message.content.strip(), "<|eot_id|>")
        else:
            writer.add(message.content.strip() + "<|eot_id|>")
    return writer.done()


# The system prompt is folded into the first user turn; there is no generation prompt of its own.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' }}{% generation %}{{ message['content'] | trim + eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
)


def write_mistral(messages: list[Message]) -> Written:
    """The space after [/INST] counts as part of the answer: generation starts before it."""
    system = ""
    if messages[0].role == "system":
        system, messages = messages[0].content + "\n\n", messages[1:]
    writer = _Writer().add("<s>")
    for number, message in enumerate(messages):
        if message.role == "assistant":
            writer.answer(" " + message.content.strip(), "</s>")
        else:
            writer.add(f"[INST] {system if number == 0 else ''}{message.content} [/INST]")
    return writer.done()


GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<start_of_turn>model\\n' }}"
    "{% generation %}{{ message['content'] | trim + '<end_of_turn>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ '<start_of_turn>' + message['role'] + '\\n' + message['content'] | trim + "
    "'<end_of_turn>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def write_gemma(messages: list[Message]) -> Written:
    writer = _Writer().add("<s>")
    for message in messages:
        if message.role == "assistant":
            writer.add("<start_of_turn>model\n").answer(message.content.strip(), "<end_of_turn>").add("\n")
        else:
            writer.add(f"<start_of_turn>{message.role}\n{message.content.strip()}<end_of_turn>\n")
    return writer.done()


def write_alpaca(messages: list[Message]) -> Written:
    writer = _Writer().add("<s>")
    for number, message in enumerate(messages):
        if message.role == "system":
            writer.add(message.content + "\n\n")
        elif message.role == "user":
            writer.add(f"### Instruction:\n{message.content}\n\n")
        else:
            writer.add("### Response:\n").answer(message.content, "</s>")
            writer.add("\n\n" if number < len(messages) - 1 else "")
    return writer.done()


# Thinking is kept in the last turn only, where an answer without any gets an empty block.
THINKING = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% set content = message['content'] %}{% set thought = '' %}"
    "{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\\n' }}{% generation %}"
    "{% if loop.last %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_thinking(messages: list[Message]) -> Written:
    writer = _Writer()
    for number, message in enumerate(messages):
        writer.add(f"<|im_start|>{message.role}\n")
        if message.role != "assistant":
            writer.add(f"{message.content}<|im_end|>\n")
            continue
        thought, content = "", message.content
        if "</think>" in content:
            thought = content.split("</think>")[0].split("<think>")[-1].strip("\n")
            content = content.split("</think>")[-1].lstrip("\n")
        if number == len(messages) - 1:
            content = f"<think>\n{thought}\n</think>\n\n{content}"
        writer.answer(content, "<|im_end|>").add("\n")
    return writer.done()


def without_tags(template: str) -> str:
    """The template as models ship it: without generation tags."""
    return template.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def _shipped(name: str) -> str:
    return (resources.files("hf_align.data") / "templates" / f"{name}.jinja").read_text("utf-8")


FAMILIES: dict[str, tuple[str, Callable[[list[Message]], Written]]] = {
    "chatml": (_shipped("chatml"), write_chatml),
    "hermes": (_shipped("hermes"), write_chatml),
    "llama3": (without_tags(LLAMA3), write_llama3),
    "mistral": (without_tags(MISTRAL), write_mistral),
    "gemma": (without_tags(GEMMA), write_gemma),
    "alpaca": (_shipped("alpaca"), write_alpaca),
    "thinking": (without_tags(THINKING), write_thinking),
}
TAGGED = {"llama3": LLAMA3, "gemma": GEMMA, "thinking": THINKING}


def conversation(*turns: str, system: str | None = None) -> list[Message]:
    """Turns of user and assistant in alternation, after a system turn if one is given."""
    head = [] if system is None else [Message("system", system)]
    return head + [Message("user" if i % 2 == 0 else "assistant", turn) for i, turn in enumerate(turns)]
