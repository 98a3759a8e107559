"""Every command line of the pages is given to bash and make; what it starts is read as it reads it itself.

The programs are replaced by a recorder, so this takes seconds; test_doc_commands_run.py runs them.
"""

from __future__ import annotations

import re
import shutil

import pytest
from helpers.documentation import PAGES, ROOT, Command, blocks, commands, commands_of_recipe
from helpers.documented_commands import NOT_STARTED, PLACEHOLDERS, check, documented, example
from helpers.recorded_shell import RecordedShell

NO_EXTRA = {"pip install deepspeed": "a package that no extra names, since it installs on few machines"}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> RecordedShell:
    return RecordedShell(tmp_path_factory.mktemp("documented"))


@pytest.mark.parametrize("command", documented(), ids=lambda one: f"{one.page}:{one.line}:{one.text[:60]}")
def test_a_documented_command_works(command: Command, shell: RecordedShell) -> None:
    check(command, shell)


@pytest.mark.parametrize(
    "command",
    [one for path in sorted(ROOT.glob("recipes/*/*.yaml")) for one in commands_of_recipe(path)],
    ids=lambda one: f"{one.page}:{one.line}",
)
def test_a_command_in_the_comment_of_a_recipe_works(command: Command, shell: RecordedShell) -> None:
    if command.text not in NO_EXTRA:
        check(command, shell)


def test_the_tables_hold_nothing_that_is_not_there() -> None:
    texts = [command.text for page in PAGES for command in commands(page)]
    assert set(NOT_STARTED) <= set(texts)
    for pattern, replacement in PLACEHOLDERS:
        changed = [text for text in texts if example(text) != text]
        assert any(re.search(pattern, text) for text in changed), (pattern, replacement)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("make no-such-target", "No rule to make target"),
        ("make sft RECIPE=recipes/sft/none.yaml", "there is no such recipe file"),
        ('make sft ARGS="--learning_rat 1e-4"', "Did you mean '--learning_rate'?|learning_rate"),
        ("hf-align sft --config recipes/sft/quickstart.yaml --beta 1", "beta"),
        ("hf-align sfft --config x", "there is no such command"),
        ("python data/make_orders.py", "there is no data/make_orders.py"),
        ("python data/make_data.py --rows 3", "no option --rows"),
        ("pip install hf_align[gpus]", "one of its extras"),
        ("make report RUN=runs/never_written", "writes runs/never_written"),
        ("make chat RUN=models/unknown", "no target of make builds"),
        ("make sft RECIPE=recipes/sft/…", "placeholder"),
        ("git pull", "nothing is known about this program"),
        ('make sft ARGS="--max_steps 3', "unexpected EOF"),
    ],
)
def test_a_command_that_does_not_work_is_found(line: str, found: str, shell: RecordedShell) -> None:
    with pytest.raises(AssertionError, match=found) as caught:
        check(Command("page.md", 7, line), shell)
    assert str(caught.value).startswith("page.md:7: ") and "PLACEHOLDERS" in str(caught.value)


def test_commands_are_found_wherever_they_stand() -> None:
    page = """Say `make sft` or `hf-align
sft --help`, not `make`.

```
make dpo \\
  RECIPE=a.yaml   # a comment
output, not a command
NPROC=2 make ppo  # make sft ARGS="# no comment"
```

    hf-align chat --seed 1

```python
make_model()
```
"""
    assert [(one.line, one.text) for one in commands("page.md", page)] == [
        (1, "hf-align sft --help"),
        (1, "make sft"),
        (5, "make dpo   RECIPE=a.yaml"),
        (8, "NPROC=2 make ppo"),
        (8, 'make sft ARGS="# no comment"'),
        (11, "hf-align chat --seed 1"),
    ]
    assert [block.language for block in blocks(page)] == ["", "", "python"]
