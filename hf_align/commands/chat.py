"""Talk with a model, an adapter on its base, or the result of a run, in the terminal.

Input that is not a terminal is read line by line, one line a turn; then standard output holds the answers
only, and everything else goes to standard error. Each turn renders the whole conversation again, since a
template may write an earlier turn anew; the model reads it from the first token that differs.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hf_align.commands.chat_recipe import ChatConfig
from hf_align.config.help import help_text
from hf_align.config.loader import load_config
from hf_align.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_align.commands.chat_tools import Tools
    from hf_align.data.chat.calls import Call
    from hf_align.saved_models.conversation import ChatReply, Conversation

USAGE = "usage: hf-align chat --model_name_or_path PATH [--key value ...]"
COMMANDS = {
    "/reset": "start over; the system prompt stays",
    "/system TEXT": "start over with another system prompt; without TEXT, with none",
    "/exit": "end; so does Ctrl-D",
}
MOST_ROUNDS = 8
"""So often the results of tools are given back before there is an answer."""
KEYS = COMMANDS | {"Ctrl-C": "stop the answer, not the program"}


def main(argv: Sequence[str] | None = None) -> int:
    """Lead a conversation on standard input and output.

    Raises UserError for wrong options and for a model that cannot be loaded or talked with.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "-h" in arguments or "--help" in arguments:
        print(help_text(ChatConfig, command="chat", description=__doc__ or "", usage=USAGE))
        print("\nIn the conversation:")
        print("\n".join(f"  {name:<32}{meaning}" for name, meaning in KEYS.items()))
        return 0
    config = load_config(ChatConfig, arguments, command="chat")

    import transformers

    from hf_align.commands.chat_tools import load_tools
    from hf_align.sampling.options import Sampling
    from hf_align.saved_models.conversation import Conversation
    from hf_align.saved_models.run_models import find_model, load_run_model

    options = config.chat
    tools = None if options.tools is None else load_tools(options.tools)
    source = find_model(
        config.model, base=options.base_model, chosen=config.overrides, use_cpu=options.use_cpu
    )
    model, tokenizer = load_run_model(source, use_cpu=options.use_cpu)
    system = options.system_prompt
    if system is None:
        trained_with = source.recipe.get("system_prompt")
        system = trained_with if isinstance(trained_with, str) else None
    conversation = Conversation(
        model,
        tokenizer,
        Sampling(options.max_new_tokens, options.temperature, options.top_p),
        system=system,
        fold=source.recipe.get("fold_system_prompt") is True,
        tools=() if tools is None else tools.schemas,
    )
    transformers.set_seed(options.seed)
    _greet(config.model.model_name_or_path, source, conversation, tools)
    _talk(conversation, tools)
    return 0


def _talk(conversation: Conversation, tools: Tools | None) -> None:
    terminal = sys.stdin.isatty()
    for line in _lines(terminal):
        command, _, rest = line.strip().partition(" ")
        if command == "/exit":
            return
        # A path such as /usr/bin is a question, not a command.
        if re.fullmatch(r"/\w*", command):
            _obey(conversation, command, rest.strip())
        elif line.strip():
            _answer(conversation, line.strip(), tools)


def _obey(conversation: Conversation, command: str, rest: str) -> None:
    names = [name.split()[0] for name in COMMANDS]
    if command == "/reset":
        conversation.reset()
        _note("A new conversation.")
    elif command == "/system":
        try:
            conversation.set_system(rest or None)
        except UserError as error:
            _note(str(error))
            return
        _note(
            f"A new conversation, system prompt: {rest}" if rest else "A new conversation, no system prompt."
        )
    else:
        nearest = did_you_mean(command, names)
        _note(f"{command}: there is no such command; there are {', '.join(names)}.{nearest}")


def _answer(conversation: Conversation, prompt: str, tools: Tools | None) -> None:
    """Ask, run the tools that are called, and go on with their results until there is an answer."""
    before = list(conversation.messages)
    try:
        reply = _shown(lambda show: conversation.ask(prompt, show), tools)
        for _ in range(MOST_ROUNDS):
            if tools is None or not reply.calls:
                return
            results = [(call.name, _run(tools, call)) for call in reply.calls]
            reply = _shown(lambda show, given=results: conversation.tell(given, show), tools)
        if reply.calls:
            _note(
                f"[{MOST_ROUNDS} times in turn the model called tools instead of answering; that is enough]"
            )
    except UserError as error:
        conversation.messages = before
        _note(str(error))


def _run(tools: Tools, call: Call) -> str:
    from hf_align.commands.chat_tools import shown_call

    _note(_visible(f"[calls {shown_call(call)}]"))
    result = tools.run(call)
    _note(_visible(f"[gets {result}]"))
    return result


def _shown(answer: Callable[[Callable[[str], None]], ChatReply], tools: Tools | None) -> ChatReply:
    """What ``answer`` gives, whose text is shown while it is written; calls of tools are no text."""
    clean = _visible if sys.stdout.isatty() else str

    def show(text: str) -> None:
        print(clean(text), end="", flush=True)

    if tools is None:
        reply, written = answer(show), True
    else:
        from hf_align.commands.chat_tools import WithoutCalls

        pieces = WithoutCalls(show)
        reply = answer(pieces.push)
        written = pieces.end(called=bool(reply.calls)) or not reply.calls
    if written:
        print(flush=True)
    if reply.note:
        _note(reply.note)
    return reply


def _lines(terminal: bool) -> Iterator[str]:
    """What the user enters, until the end of input. Ctrl-C at an empty prompt says how to leave."""
    if terminal:
        with contextlib.suppress(ImportError):  # line editing, where the system has it
            import readline  # noqa: F401
    while True:
        try:
            line = input("> ") + "\n" if terminal else sys.stdin.readline()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            if not terminal:
                raise
            _note("\n/exit or Ctrl-D ends the conversation.")
            continue
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input: not valid {error.encoding} text (byte {error.start})"
            ) from error
        if not line:
            return
        # Bytes that Python kept as lone surrogates would stop the tokenizer.
        yield line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _greet(path: str, source: Any, conversation: Conversation, tools: Tools | None) -> None:
    from hf_align.sampling.options import settings_not_followed

    base = f" on {source.config.model_name_or_path}" if source.adapter is not None else ""
    held = f", weights held in {source.quantization}" if source.quantization else ""
    _note(f"{path}{base}{held}, computing in {source.precision}.")
    if left_out := settings_not_followed(conversation.model):
        asked = ", ".join(f"{key}={value}" for key, value in left_out.items())
        _note(f"The model's generation_config.json asks for {asked}; tokens are chosen without it.")
    if tools is not None:
        _note(f"Tools: {', '.join(tools.functions)}.")
        for name, reason in tools.left_out.items():
            _note(f"Not offered: {name}: {reason}")
    if conversation.system:
        _note(f"System prompt: {conversation.system}")
    if sys.stdin.isatty():
        _note("\n".join(f"{name:<14}{meaning}" for name, meaning in KEYS.items()))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _visible(text: str) -> str:
    """``text`` without the control characters that could steer a terminal; line ends and tabs stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)
