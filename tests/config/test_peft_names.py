"""Names of the methods of PEFT: those of the installed one, read without importing it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hf_align.config import AdapterConfig
from hf_align.config.group import KeyProblem
from hf_align.config.peft_names import check_peft_options, peft_names, why_left_out


def test_the_names_are_those_of_the_installed_peft() -> None:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

    names = peft_names()
    assert {"boft", "vera", "loha", "lokr", "oft", "hra"} <= set(names)
    assert set(names) < {member.value.lower() for member in PeftType}
    assert all(
        name.upper() in {str(key.value) for key in PEFT_TYPE_TO_CONFIG_MAPPING if hasattr(key, "value")}
        for name in names
    )


def test_a_misspelt_adapter_is_refused_without_importing_peft() -> None:
    code = (
        "import sys\n"
        "from hf_align.config import AdapterConfig\n"
        "try:\n    AdapterConfig(adapter='lorra')\n"
        "except Exception as error:\n    print(error)\n"
        "print(sorted({'peft', 'torch', 'transformers'} & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Did you mean 'lora'?" in out
    assert out.splitlines()[-1] == "[]"


def test_what_is_left_out_says_why() -> None:
    assert "number of a task" in why_left_out("poly") and why_left_out("lora") == ""
    assert "poly" not in peft_names() and "lora" not in peft_names()
    with pytest.raises(
        KeyProblem, match="'poly' of PEFT, which is not offered: it needs the number of a task"
    ):
        AdapterConfig(adapter="poly")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lora", {"r": 8}, "write lora_r"),
        ("lora", {"target_modules": ["q_proj"]}, "lora_target_modules"),
        ("lora", {"loftq_config": {}}, "needs none"),
        ("boft", {"modules_to_save": ["x"]}, "write modules_to_save"),
        ("boft", {"block_size": 4}, "Did you mean 'boft_block_size'"),
    ],
)
def test_options_are_those_of_the_method(name: str, options: dict[str, Any], message: str) -> None:
    check_peft_options(name, {})
    with pytest.raises(KeyProblem, match=message):
        check_peft_options(name, options)


def test_an_option_of_another_method_may_have_a_name_that_lora_has_a_key_for() -> None:
    # OFT has an r of its own, which is no lora_r.
    check_peft_options("oft", {"r": 4})
