"""``hf-align chat``, driven through pipes: answers on standard output, everything else on standard error."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers.tiny_adapters import save_adapter
from helpers.tiny_checkpoint import save_tiny_checkpoint
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_align.__main__ import main as hf_align
from hf_align.commands.chat import _visible, main
from hf_align.errors import UserError
from hf_align.sampling.answers import Answer
from hf_align.saved_models import conversation


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp("chat") / "base", initializer_range=0.15)


@pytest.fixture
def chat(monkeypatch, capsys):
    """Feed lines, return (what was written to standard output, to standard error)."""

    def run(model, lines, *options):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        usual = {"temperature": "0", "max_new_tokens": "12", "use_cpu": "true", "dtype": "float32"}
        given = usual | dict(zip((name[2:] for name in options[::2]), options[1::2], strict=True))
        arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
        assert main(["--model_name_or_path", str(model), *arguments]) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return run


def expected_answers(model, folder, prompts, *, system=None, new_tokens=12):
    """The same conversation with transformers' own generate, the whole history rendered for each turn."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "system", "content": system}] if system else []
    answers = []
    for prompt in prompts:
        messages.append({"role": "user", "content": prompt})
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**ids, do_sample=False, max_new_tokens=new_tokens)
        answer = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        messages.append({"role": "assistant", "content": answer})
        answers.append(answer)
    return answers


def test_answers_are_those_of_generate_with_the_whole_history(base, chat):
    prompts = ["Please send lamps to Oslo.", "And twelve more.", "你好，世界。"]
    out, err = chat(base, prompts)
    model = AutoModelForCausalLM.from_pretrained(base)
    assert out == "".join(f"{answer}\n" for answer in expected_answers(model, base, prompts))
    assert "computing in fp32" in err


def test_system_prompt_reset_and_exit(base, chat):
    model = AutoModelForCausalLM.from_pretrained(base)
    lines = [
        "lamps",
        "/reset",
        "lamps",
        "",
        "/system user assistant",
        "lamps",
        "/system",
        "lamps",
        "/exit",
        "lamps",
    ]
    out, err = chat(base, lines, "--system_prompt", "Write the order.")
    (first,) = expected_answers(model, base, ["lamps"], system="Write the order.")
    (second,) = expected_answers(model, base, ["lamps"], system="user assistant")
    (third,) = expected_answers(model, base, ["lamps"])
    assert len({first, second, third}) > 1
    assert out == f"{first}\n{first}\n{second}\n{third}\n"
    assert "system prompt: user assistant" in err and "no system prompt" in err


def test_unknown_commands_are_not_sent_and_paths_are(base, chat):
    out, err = chat(base, ["/rest", "/usr/bin is what?"])
    assert "/rest: there is no such command" in err and "Did you mean '/reset'?" in err
    model = AutoModelForCausalLM.from_pretrained(base)
    assert out == expected_answers(model, base, ["/usr/bin is what?"])[0] + "\n"


def test_an_adapter_is_loaded_with_its_base(base, chat, tmp_path):
    recipe = {"system_prompt": "Write the order.", "output_dir": "runs/x"}
    adapter = save_adapter(tmp_path / "run", base, scale=0.3, recipe=recipe)
    out, err = chat(adapter, ["lamps"])
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    (answer,) = expected_answers(model, base, ["lamps"], system="Write the order.")
    assert out == f"{answer}\n"
    assert answer != expected_answers(AutoModelForCausalLM.from_pretrained(base), base, ["lamps"])[0]
    assert f"run on {base}" in err and "System prompt: Write the order." in err


def test_a_base_that_was_quantised_in_training_is_again(base, chat, tmp_path):
    recipe = {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "output_dir": "runs/x"}
    adapter = save_adapter(tmp_path / "run", base, recipe=recipe)
    assert "held in fp4" in chat(adapter, ["lamps"])[1]
    assert "held in" not in chat(adapter, ["lamps"], "--load_in_4bit", "false")[1]
    assert "held in int8" in chat(adapter, ["lamps"], "--load_in_8bit", "true")[1]


def test_a_base_beside_the_run_is_found_from_another_working_directory(chat, tmp_path, monkeypatch):
    project = tmp_path / "project"
    save_tiny_checkpoint(project / "models" / "tiny")
    monkeypatch.chdir(project)
    save_adapter(project / "runs" / "x", "models/tiny", recipe={"output_dir": "runs/x"})
    monkeypatch.chdir(tmp_path)
    assert f"on {project}/models/tiny" in chat("project/runs/x", ["lamps"])[1]


def test_a_full_context_is_said_and_the_turn_left_out(base, chat):
    """The model's context has 256 tokens."""
    long = "lamps to Oslo " * 100
    out, err = chat(base, [long, "lamps"])
    model = AutoModelForCausalLM.from_pretrained(base)
    assert out == expected_answers(model, base, ["lamps"])[0] + "\n"
    assert "the model's context holds 256" in err and "/reset" in err


def test_an_answer_that_fills_the_context_is_marked(chat, tmp_path):
    small = save_tiny_checkpoint(tmp_path / "small", max_position_embeddings=64, initializer_range=0.15)
    tokenizer = AutoTokenizer.from_pretrained(small)
    prompt = "lamps " * 8
    used = len(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt.strip()}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
    )
    assert 0 < 64 - used < 60
    _, err = chat(small, [prompt], "--max_new_tokens", "60")
    assert f"cut off after {64 - used} tokens: the context of 64 tokens is full" in err
    assert "cut off after 12 tokens: --max_new_tokens allows more" in chat(small, ["lamps"])[1]


def test_seeds_and_sampling(base, chat):
    draws = [
        chat(base, ["lamps", "more"], "--temperature", "1.5", "--top_p", "1", "--seed", seed)[0]
        for seed in ("1", "1", "2")
    ]
    assert draws[0] == draws[1] != draws[2]


def test_no_thread_is_left_and_torch_is_not_training(base, chat):
    before = threading.active_count()
    chat(base, ["lamps"])
    assert threading.active_count() == before
    assert torch.is_grad_enabled()


def test_what_cannot_be_talked_with(base, chat, tmp_path):
    bare = tmp_path / "bare"
    save_tiny_checkpoint(bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        chat(bare, [])
    assert "computing" in chat(bare, ["lamps"], "--chat_template_path", "chatml")[1]
    with pytest.raises(UserError, match=r"neither a model .* nor an adapter"):
        chat(tmp_path, [])
    with pytest.raises(UserError, match="hold one, the newest first: bare"):
        chat(tmp_path, [])
    with pytest.raises(UserError, match="is no adapter"):
        chat(base, [], "--base_model", base)
    with pytest.raises(UserError, match=r"--temprature: unknown option\. Did you mean 'temperature'"):
        chat(base, [], "--temprature", "1")


def test_a_template_without_system_role_refuses_the_system_prompt(chat, tmp_path):
    folder = tmp_path / "gemma"
    save_tiny_checkpoint(folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + template
    )
    with pytest.raises(UserError, match="System role not supported"):
        chat(folder, [], "--system_prompt", "x")
    assert "System role not supported" in chat(folder, ["/system x", "lamps"])[1]


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


def with_answers(monkeypatch, *texts):
    """Let the model write ``texts`` in turn; what it is asked is kept."""
    asked, waiting = [], iter(texts)

    def answered(model, tokenizer, ids, sampling, *, on_text, **_):
        asked.append(tokenizer.decode(ids))
        text = next(waiting)
        on_text(text)
        return Answer(text, True, 3)

    monkeypatch.setattr(conversation, "stream_answer", answered)
    return asked


def test_tools_are_offered_called_and_their_results_answered(chat, tmp_path, monkeypatch):
    base = save_tiny_checkpoint(tmp_path / "base", max_position_embeddings=8192)
    file = tmp_path / "tools.py"
    file.write_text(
        'def add(a: int, b: int) -> int:\n    """Add.\n\n    Args:\n        a: 1.\n        b: 2.\n    """\n'
        "    if b == 0:\n        raise ValueError('zero')\n    return a + b\n\n"
        "def bare(a):\n    return a\n"
    )
    options = ("--tools", str(file), "--chat_template_path", "hermes")
    wrong = CALL.replace("2", "0")
    asked = with_answers(monkeypatch, CALL, "It is 3.", wrong, "That fails.", *[CALL] * 9)
    out, err = chat(base, ["1 + 2?", "1 + 0?", "again?", "/exit"], *options)
    assert out == "It is 3.\nThat fails.\n"
    assert "Tools: add." in err and "Not offered: bare: " in err
    assert "[calls add(a=1, b=2)]" in err and "[gets 3]" in err and "ValueError: zero" in err
    assert '"name": "add"' in asked[0]
    assert f"{CALL}<|im_end|>\n<|im_start|>tool\n<tool_response>\n3\n</tool_response>" in asked[1]
    assert '{"error": "ValueError: zero"}' in asked[3]
    assert "8 times in turn" in err and len(asked) == 13


def test_tools_need_a_template_that_writes_them(base, chat, tmp_path):
    file = tmp_path / "tools.py"
    file.write_text('def add() -> int:\n    """Add."""\n    return 1\n')
    with pytest.raises(UserError, match=r"does not write the tool 'add'.*--chat_template_path hermes"):
        chat(base, [], "--tools", str(file))


def test_control_characters_of_an_answer_do_not_reach_the_terminal():
    assert _visible("a\x1b[2Jb\n\tc\x07é你") == "a\ufffd[2Jb\n\tc\ufffdé你"


def test_through_the_front_door(capsys):
    assert hf_align(["chat", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: hf-align chat --model_name_or_path PATH")
    assert "/system TEXT" in shown and "Ctrl-C" in shown


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process")
def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path):
    """A model that repeats itself for ever is interrupted in its answer; the conversation goes on."""
    folder = tmp_path / "endless"
    save_tiny_checkpoint(folder, max_position_embeddings=100_000, initializer_range=0.15)
    # The likeliest tokens of this model go round in a circle; drawn ones would end sooner or later.
    options = {"use_cpu": "true", "max_new_tokens": "90000", "temperature": "0"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_align", "chat", "--model_name_or_path", str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
        # A shell starts what it puts into the background with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        process.stdin.write(b"lamps\n")
        process.stdin.flush()
        assert process.stdout.read(1)  # the answer has begun
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(b"/system x\n/exit\n", timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    _, _, rest = err.partition(b"[interrupted; what was said stays in the conversation]")
    assert b"A new conversation, system prompt: x" in rest
