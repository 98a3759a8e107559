"""``hf-align COMMAND …``: find the command, import only that one, report user errors in one line.

A command is a module with ``main(argv=None)``; ``hf_align.stages.COMMANDS`` is their table. Descriptions are
read from the files without importing them, so that ``--help`` loads no heavy library.
"""

from __future__ import annotations

import ast
import errno
import importlib
import os
import select
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from hf_align.errors import UserError, did_you_mean, without_controls
from hf_align.stages import COMMANDS

ROOT = Path(__file__).parent.parent

WIDTH = 100
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_CLOSED_OUTPUT = 141
"""The last two are what a shell reports after SIGINT (Ctrl-C) and SIGPIPE: 128 + the signal."""
_LOADS_NO_MODEL = {"report"}
"""Commands that work without the libraries whose releases are tested."""
_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP),
)
"""What the system says of a file that it does not let this user have, write or name so."""


def find_commands() -> dict[str, str]:
    """The commands with their descriptions: the first line of each module docstring."""
    commands = {}
    for name, module in COMMANDS.items():
        path = ROOT / f"{module.replace('.', '/')}.py"
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        commands[name] = docstring.partition("\n")[0].replace("``", "")
    return commands


def usage() -> str:
    """The text of ``hf-align --help``."""
    commands = find_commands()
    width = max(map(len, commands), default=0)
    listed = [
        textwrap.fill(
            summary,
            WIDTH,
            initial_indent=f"  {name.ljust(width)}  ",
            subsequent_indent=" " * (width + 4),
        )
        for name, summary in commands.items()
    ]
    return "\n".join(
        [
            "usage: hf-align COMMAND [--config RECIPE.yaml] [--key value ...]",
            "",
            "Fine-tuning and alignment of Hugging Face models.",
            "",
            "commands:",
            *listed,
            "",
            "hf-align COMMAND --help lists the options of a command; hf-align --version prints the versions.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 2 after a user's mistake, 130 after Ctrl-C.

    A file that the system does not let the user read, write or name so counts as a mistake.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"error: {without_controls(str(error))}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return EXIT_CLOSED_OUTPUT
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        place = f"{str(error.filename)[:200]}: " if error.filename else ""
        print(f"error: {place}{error.strerror}", file=sys.stderr)
        return EXIT_USER_ERROR


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from hf_align.runs.releases import version_lines

        print("\n".join(version_lines()))
        return 0
    name, *rest = arguments
    commands = find_commands()
    if name not in commands:
        raise UserError(
            f"{name!r}: unknown command; there are: {', '.join(commands)}.{did_you_mean(name, commands)}"
        )
    if name not in _LOADS_NO_MODEL and not {"-h", "--help"} & set(rest):
        from hf_align.runs.releases import notes

        for line in notes():
            print(line, file=sys.stderr)
    command = importlib.import_module(COMMANDS[name])
    status = command.main(rest)
    # A command called from Python returns what it found out; only a number is an exit status.
    return status if isinstance(status, int) else 0


def _output_is_closed() -> bool:
    """Whether the reader of standard output has gone, as with ``| head``; if so, discard what is left.

    Asks the pipe itself, since other pipes and sockets, between training processes for example, break too.
    """
    if not hasattr(select, "poll"):
        return False
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    # Python flushes once more at exit and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


if __name__ == "__main__":
    sys.exit(main())
