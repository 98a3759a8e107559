"""Code is run apart, with limits: what passes, what does not, and that leaving early is no way to pass."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rewards.verifiable.code import check_code, code, code_of

DOUBLE = "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nThat is it."
TESTS = ["assert double(2) == 4", "assert double(-1) == -2", "assert double('a') == 'b'"]


def test_the_share_of_tests_that_pass() -> None:
    rows: list[dict[str, Any]] = [{"tests": TESTS}, {"tests": TESTS[0]}, {"tests": TESTS}]
    assert code([DOUBLE, DOUBLE, "def double(x): return 'b'"], rows) == [
        pytest.approx(2 / 3),
        1.0,
        pytest.approx(1 / 3),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "open('passed', 'w').write('yes'); raise SystemExit",
        "syntax error here",
        "x = bytearray(10**10)",
        "open('big', 'wb').write(bytes(10**8))",
        "",
    ],
)
def test_leaving_early_or_too_much_passes_nothing(answer: str) -> None:
    assert code([answer], [{"tests": "assert double(2) == 4"}], seconds=2) == [0.0]


def test_a_loop_ends_with_its_time(tmp_path: Path) -> None:
    started = time.monotonic()
    left = f"import subprocess\nsubprocess.Popen(['sleep', '60'])\nwhile True: pass  # {tmp_path}"
    assert code([left, "import time; time.sleep(30)"], [{"tests": "pass"}] * 2, seconds=1) == [0.0, 0.0]
    assert time.monotonic() - started < 15


def test_nothing_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    seen = "import os\nassert 'HF_TOKEN' not in os.environ\nassert not os.path.exists('setup.cfg')"
    assert code([seen], [{"tests": "pass"}]) == [1.0]


def test_the_last_fence_is_the_code() -> None:
    assert code_of("```\nfirst\n```\n```py\nlast\n```") == "last\n"
    assert code_of("```python\nnot closed") == "not closed"
    assert code_of("x = 1") == "x = 1"


def test_rows_without_tests_and_limits_too_low_are_refused() -> None:
    with pytest.raises(UserError, match="the row has no tests in its column 'tests'"):
        code(["x"], [{"prompt": "p"}])
    with pytest.raises(UserError, match="seconds: found 0, expected at least 1"):
        check_code(seconds=0)
