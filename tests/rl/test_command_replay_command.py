"""``hf-align ppo --replay``: what it prints and writes, and what it says to a wrong command line."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_ppo import make_inputs, run

from hf_align.__main__ import main
from hf_align.commands import ppo
from hf_align.errors import UserError

VOID = {"meta", "link", "br", "wbr"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rollouts, a checkpoint after the second, two rewards."""
    folder = tmp_path_factory.mktemp("inputs")
    inputs = make_inputs(folder)
    rewards = inputs["reward_functions"][0]
    options: dict[str, Any] = {
        "reward_functions": [rewards, rewards.replace("share_of_e", "short")],
        "reward_weights": [2.0, 0.5],
        "num_rollouts": 3,
        "save_steps": 2,
        "missing_eos_penalty": 0.25,
        "normalize_scores": True,
    }
    run({**inputs, **options}, folder / "run")
    return folder / "run"


def test_metrics_the_answers_that_stand_out_and_one_in_full(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = ppo.main(["--replay", f"{done}:3", "--episode=2"])
    said = capsys.readouterr().out
    assert f"Computed again from {done / 'checkpoint-2'}." in said
    assert re.search(r"All \d\d metrics are as recorded, bit for bit\.", said)
    assert re.search(r"^policy_loss +(\S+) +\1 +=$", said, re.MULTILINE)
    assert re.search(r"^highest KL +\d ", said, re.MULTILINE)
    assert "Answer 2 to prompt 1 (" in said and "<|im_start|>user↵Please·send" in said
    assert re.search(r"reward \S+ = 2 × \S+ share_of_e \+ 0\.5 × \S+ short", said)
    assert "less the mean of the scores so far" in said
    table = said[said.index("Answer 2 to prompt 1") :]
    assert re.search(
        r"^ +token +KL +reward +value +return +raw adv\. +adv\. +ratio +clipped +loss$", table, re.M
    )
    assert result["differing"] == [] and result["again"]["policy_loss"] == result["recorded"]["policy_loss"]
    assert Path(result["page"]) == done / "replay-3.html"


def test_the_page_is_whole_and_loads_nothing(done: Path) -> None:
    page = Path(ppo.main(["--replay", f"{done}:2"])["page"]).read_text(encoding="utf-8")
    open_tags: list[str] = []

    class Check(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            assert tag != "script"
            if tag not in VOID:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Check().feed(page)
    assert open_tags == [] and not re.search(r"(src|href)=\"https?:", page)
    assert "from the start of training by way of the updates of rollout 1" in page
    assert re.search(r'<span class="[pn]\d[^"]*" title="token 1\nKL ', page)
    assert page.count("<article") >= 3 and "its part of the logged losses" in page


def test_recorded_numbers_alone(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "run"))
    shutil.rmtree(folder / "checkpoint-2")
    (folder / "rollouts" / "rollout-000001.safetensors").unlink()
    result = ppo.main(["--replay", f"{folder}:3", "--episode", "1"])
    said = capsys.readouterr().out
    assert result["again"] is None and "this is what was recorded" in said
    assert re.search(r"^metric +recorded$", said, re.MULTILINE) and "ratio  clipped" not in said
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert "computed again</th>" not in page and "By their advantage" in page


WRONG = {
    "no value": (["--replay"], "--replay: a value is missing"),
    "no step": (
        ["--replay", "runs/x"],
        "--replay: found 'runs/x', expected RUN:STEP, for example runs/ppo:12",
    ),
    "step 0": (["--replay", "runs/x:0"], "expected RUN:STEP"),
    "no run": (["--replay", ":3"], "expected RUN:STEP"),
    "twice": (["--replay", "a:1", "--replay", "b:1"], "--replay: this option is given twice"),
    "a recipe": (["--config", "r.yaml", "--replay", "a:1"], "--config: --replay takes nothing beside it"),
    "an option": (["--replay", "a:1", "--episodes", "3"], "Did you mean '--episode'"),
    "no number": (
        ["--replay", "a:1", "--episode", "x"],
        "--episode: found 'x', expected the number of an answer",
    ),
    "no folder": (["--replay", "nowhere/run:1"], "nowhere/run: there is no such folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_line_is_explained(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = WRONG[case]
    assert main(["ppo", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_an_answer_that_is_not_there(done: Path) -> None:
    with pytest.raises(
        UserError, match="--episode: found 99; rollout 1 has 8 answers, expected one of 1 to 8"
    ):
        ppo.main(["--replay", f"{done}:1", "--episode", "99"])


def test_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ppo.main(["--help"])
    said = capsys.readouterr().out
    assert "--replay RUN:STEP" in said and "--record_limit INT" in said
    assert max(map(len, ppo.OWN_HELP.splitlines())) <= 100
