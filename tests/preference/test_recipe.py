"""Recipes of preference optimisation: losses and their options, the reference, what does not go together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_align.config import load_config, load_recipe
from hf_align.config.fields import specs_of
from hf_align.errors import UserError
from hf_align.losses import PAIRWISE_LOSSES
from hf_align.losses.preference import PairwiseLoss
from hf_align.preference.recipe import DpoConfig, PairwiseLossConfig, parse_dpo

START = "model_name_or_path: m\ndatasets: a.jsonl\n"
STREAM: dict[str, Any] = {"streaming": True, "max_steps": 3, "save_strategy": "no"}


def config(**values: Any) -> DpoConfig:
    return DpoConfig.from_flat({"model_name_or_path": "m", "datasets": "a.jsonl", **values})


def test_defaults_are_those_of_dpo() -> None:
    found = config()
    assert found.preference.loss == ["dpo"] and found.preference.beta == 0.1
    assert found.training.output_dir == "runs/dpo" and found.training.learning_rate == 1e-6
    assert found.comparison.share_prefix and found.comparison.disable_dropout


def test_groups_share_no_key() -> None:
    names = [name for group in DpoConfig.groups().values() for name in specs_of(group)]
    assert len(names) == len(set(names)) > 70


@pytest.mark.parametrize("name", sorted(PAIRWISE_LOSSES))
def test_every_loss_of_the_table_can_be_chosen(name: str) -> None:
    options = {"label_smoothing": 0.001} if name == "exo_pair" else {}
    assert config(loss=name, **options).preference.loss == [name]
    assert config(loss=[name], **options).preference.loss == [name]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"loss": "exo_pair"}, "a share above 0"),
        ({"loss": "apo_zero", "f_divergence_type": "forward_kl"}, "no effect"),
        ({"discopop_tau": 0.1}, "dpo does not take it"),
        ({"loss": "simpo", "ld_alpha": 0.5}, "simpo divides by the length"),
        ({"loss": "aot", "use_weighting": True}, "no weight in common"),
    ],
    ids=str,
)
def test_options_that_do_not_go_with_the_loss(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        config(**values)


def test_a_new_entry_of_the_table_is_a_new_loss_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = PairwiseLoss(lambda policy, *, beta: policy.chosen, False, ("beta",))
    monkeypatch.setitem(PAIRWISE_LOSSES, "imaginary", loss)
    assert config(loss="imaginary").preference.loss == ["imaginary"]
    with pytest.raises(UserError, match="imaginary does not take it"):
        config(loss="imaginary", label_smoothing=0.1)


@pytest.mark.parametrize(
    ("values", "reference"),
    [
        ({}, "precomputed"),
        ({"adapter": "lora"}, "adapter off"),
        ({"adapter": "lora", "precompute_ref_log_probs": True}, "precomputed"),
        ({"adapter": "lora", "precompute_ref_log_probs": False}, "adapter off"),
        ({"adapter": "lora", "ref_model_name_or_path": "other"}, "precomputed"),
        ({"ref_model_name_or_path": "other"}, "precomputed"),
        ({"reference_free": True}, "none"),
        ({"loss": "simpo"}, "none"),
        ({"loss": ["orpo", "simpo"], "adapter": "lora"}, "none"),
        ({"loss": ["simpo", "dpo"], "adapter": "lora"}, "adapter off"),
        ({"loss": "simpo", **STREAM}, "none"),
        ({"adapter": "lora", **STREAM}, "adapter off"),
    ],
    ids=str,
)
def test_where_the_reference_comes_from(values: dict[str, Any], reference: str) -> None:
    assert config(**values).reference == reference


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("loss: dppo", ":3: loss: found the text 'dppo', expected one of: dpo, robust, hinge, ipo, "),
        ("loss: dppo", "Did you mean 'dpo'?"),
        ("loss: [dpo, simp]", "Did you mean 'simpo'?"),
        ("loss: [dpo, dpo]", ":3: loss: 'dpo' is given twice"),
        ("loss: []", ":3: loss: found an empty list"),
        ("loss: 3", ":3: loss: found the number 3, expected"),
        ("loss_weights: [1, 2]", ":3: loss_weights: found 2 weights for 1 loss; expected one for each"),
        (
            "loss: [dpo, ipo]\nloss_weights: [1]",
            ":4: loss_weights: found 1 weight for 2 losses; expected one for each, in the same order. (See ",
        ),
        ("loss: [dpo, ipo]\nloss_weights: [1, 0]", ":4: loss_weights: found the number 0, expected numbers"),
        (
            "loss: [dpo, ipo]\nloss_weights: [1, -2]",
            ":4: loss_weights: found the number -2, expected numbers",
        ),
        ("loss: [dpo, ipo]\nloss_weights: [a, 1]", ":4: loss_weights: found the text 'a'"),
        ("beta: 0", ":3: beta: found the number 0, expected a number above 0."),
        ("beta: [0.1]", ":3: beta: found a list, expected a number above 0."),
        ("label_smoothing: 0.5", ":3: label_smoothing: found the number 0.5, expected"),
        (
            "ipo_reduction: average",
            ":3: ipo_reduction: found the text 'average', expected one of: mean, sum.",
        ),
        ("ipo_reduction: sum", ":3: ipo_reduction: this has no effect: dpo does not take it; remove it"),
        (
            "loss: hinge\nlabel_smoothing: 0.1",
            ":4: label_smoothing: this has no effect: hinge does not take it",
        ),
        ("loss: ipo\nlabel_smoothing: 0.1", ":4: label_smoothing: this has no effect: ipo does not take it"),
        (
            "loss: [ipo, hinge]\nsimpo_gamma: 1",
            ":4: simpo_gamma: this has no effect: ipo and hinge do not take it",
        ),
        ("sft_weight: -1", ":3: sft_weight: found the number -1, expected a number of at least 0."),
        ("chosen_fall_warning: 0", ":3: chosen_fall_warning: found the number 0, expected a number above 0"),
        (
            "loss: orpo\nreference_free: true",
            ":4: reference_free: this has no effect: orpo uses no reference",
        ),
        (
            "loss: [simpo, orpo]\nref_model_name_or_path: x",
            ":4: ref_model_name_or_path: this has no effect: simpo and orpo use no reference; remove it.",
        ),
        ("loss: simpo\nprecompute_ref_log_probs: true", ":4: precompute_ref_log_probs: this has no effect"),
        (
            "reference_free: true\nref_model_name_or_path: x",
            ":4: ref_model_name_or_path: there is no reference; remove one of the two keys. (See ",
        ),
        (
            "reference_free: true\nprecompute_ref_log_probs: true",
            ":4: precompute_ref_log_probs: there is no reference",
        ),
        (
            "adapter: lora\nref_model_name_or_path: x\nprecompute_ref_log_probs: false",
            ":5: precompute_ref_log_probs: a reference of its own is run beforehand",
        ),
        (
            "precompute_ref_log_probs: false",
            ":3: precompute_ref_log_probs: without an adapter the model itself changes",
        ),
        (
            "streaming: true\nmax_steps: 3\nsave_strategy: no",
            ":3: streaming: the reference is run over all rows before training",
        ),
        (
            "adapter: lora\nref_model_name_or_path: x\nstreaming: true\nmax_steps: 3\nsave_strategy: no",
            "r.yaml:4: ref_model_name_or_path",
        ),
        ("train_on: all", ":3: train_on: "),
        ("neftune_noise_alpha: 5", ":3: neftune_noise_alpha: noise on the embeddings would differ"),
        ("load_in_4bit: true", ":3: load_in_4bit: quantised weights cannot be trained"),
        ("tau: 1", ":3: tau: unknown key. Here: write beta."),
        ("gamma: 1", ":3: gamma: unknown key. Here: write simpo_gamma."),
        ("max_prompt_length: 9", ":3: max_prompt_length: unknown key. Here: write max_length"),
        ("bta: 1", ":3: bta: unknown key. Did you mean 'beta'?"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"{START}{lines}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(DpoConfig, path)
    assert message in str(caught.value)


def test_options_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"{START}loss: ipo\n")
    found = parse_dpo(
        ["--config", str(path), "--loss", "[dpo, orpo]", "--loss_weights", "[1, 0.5]", "--sft_weight", "1"]
    )
    assert found.preference.loss == ["dpo", "orpo"] and found.preference.loss_weights == [1.0, 0.5]
    assert parse_dpo(["--config", str(path), "--loss", "hinge"]).preference.loss == ["hinge"]
    with pytest.raises(UserError, match=r"^--loss: found the text 'hinje', expected one of"):
        parse_dpo(["--config", str(path), "--loss", "hinje"])
    with pytest.raises(UserError, match=r"^--simpo_gamma: this has no effect: ipo does not take it"):
        parse_dpo(["--config", str(path), "--simpo_gamma", "2"])


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    found = PairwiseLossConfig(ref_model_name_or_path="~/models/x")
    assert found.ref_model_name_or_path == "/home/someone/models/x"


def test_flat_form_and_back() -> None:
    found = config(loss=["dpo", "ipo"], loss_weights=[1, 2], adapter="lora", ref_model_name_or_path="r")
    assert DpoConfig.from_flat(json.loads(json.dumps(found.to_flat()))) == found


def test_help_and_wrong_keys_load_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"{START}bta: 1\n")
    code = (
        "import sys\n"
        "from hf_align.config import load_config\n"
        "from hf_align.preference.recipe import DpoConfig\n"
        "from hf_align.errors import UserError\n"
        "for arguments in (['--help'], ['--config', sys.argv[1]]):\n"
        "    try: load_config(DpoConfig, arguments, command='dpo')\n"
        "    except (SystemExit, UserError): pass\n"
        "print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_config(DpoConfig, ["--help"], command="dpo")
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in DpoConfig.keys())  # noqa: SIM118
    assert "runs/dpo" in text and "runs/sft" not in text
