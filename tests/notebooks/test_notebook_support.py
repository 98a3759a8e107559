"""What the notebooks share: options as a command reads them, tiny models, and a chat service."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.documentation import ROOT
from helpers.scripts import SCRIPTS, load_script

from hf_align.evaluation.judging.chat_service import KEY_VARIABLE, ChatService
from hf_align.sft.recipe import parse_sft
from hf_align.types import Message


@pytest.fixture(scope="module")
def support() -> ModuleType:
    return load_script(SCRIPTS / "notebook_support.py")


def test_options_come_back_as_they_were_given(support: ModuleType) -> None:
    options: dict[str, Any] = {
        "learning_rate": 0.02,
        "max_steps": 8,
        "save_strategy": "no",
        "use_cpu": True,
        "run_name": None,
        "datasets": [{"path": "data/orders_en.jsonl", "max_rows": 4, "columns": {"input": "text"}}],
    }
    recipe = str(ROOT / "recipes" / "sft" / "quickstart.yaml")
    flat = parse_sft(support.arguments(recipe, **options)).to_flat()
    (dataset,) = flat.pop("datasets")
    (wanted,) = options.pop("datasets")
    assert {key: flat[key] for key in options} == options
    assert {key: dataset[key] for key in wanted} == wanted
    assert support.arguments(max_steps=3) == ["--max_steps", "3"]


def test_tiny_models_load_with_their_tokenizers(support: ModuleType, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    folder = support.tiny_chat_model(str(tmp_path / "chat"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": "Please send twelve lamps."}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nPlease send twelve lamps.<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert AutoModelForCausalLM.from_pretrained(folder)(ids).logits.shape == (1, ids.shape[1], 1024)
    assert tokenizer.decode(ids[0]) == text

    folder = support.tiny_encoder(str(tmp_path / "encoder"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The kettle leaks.", return_tensors="pt").input_ids
    assert tokenizer.convert_ids_to_tokens(ids[0])[:: ids.shape[1] - 1] == ["[CLS]", "[SEP]"]
    assert tokenizer.unk_token_id not in ids
    assert AutoModel.from_pretrained(folder)(ids).last_hidden_state.shape == (1, ids.shape[1], 64)


@pytest.mark.parametrize(
    ("function", "script", "name"),
    [
        ("default_model", "build_default_model", "SmolLM2-135M-Instruct"),
        ("default_encoder", "build_minilm_model", "all-MiniLM-L6-v2"),
    ],
)
def test_a_real_model_is_built_once(
    support: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    function: str,
    script: str,
    name: str,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    builder, folder = importlib.import_module(script), tmp_path / name
    built: list[list[str]] = []

    def build(argv: list[str]) -> int:
        built.append(argv)
        folder.mkdir()
        for file in importlib.import_module("build_default_model").REQUIRED_FILES:
            (folder / file).touch()
        return 0

    monkeypatch.setattr(builder, "DEFAULT_OUTPUT", folder)
    monkeypatch.setattr(builder, "main", build)
    assert [getattr(support, function)() for _ in range(2)] == [f"models/{name}"] * 2
    assert built == [[]]
    monkeypatch.setattr(builder, "DEFAULT_OUTPUT", tmp_path / "missing")
    monkeypatch.setattr(builder, "main", lambda argv: 2)
    with pytest.raises(RuntimeError, match=rf"{script}\.py could not build missing"):
        getattr(support, function)()


def test_the_chat_service_answers_its_client(support: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    url = support.serve_chat(lambda messages: messages[-1]["content"].upper())
    service = ChatService(url, "any", requests=2)
    asked = [[Message("system", "x"), Message("user", text)] for text in ("one", "zwei", "三")]
    assert service.replies(asked) == ["ONE", "ZWEI", "三"]
