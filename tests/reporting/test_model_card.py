"""The model card: valid front matter, code that runs, nothing that the record does not say."""

from __future__ import annotations

import ast
import copy
import re

import pytest
import yaml

from hf_align.errors import UserError
from hf_align.reporting.model_card import model_card, write_model_card
from hf_align.runs.record import write_json

RECORD = {
    "command": "sft",
    "status": "completed",
    "recipe": {
        "model_name_or_path": "some-org/Tiny-Instruct",
        "datasets": [{"path": "a.jsonl"}, {"path": "org/set"}],
        "train_on": "assistant",
        "adapter": "lora",
        "lora_r": 8,
        "seed": 7,
        "output_dir": "runs/x",
    },
    "versions": {"python": "3.11.1", "torch": "2.99", "hf_align": "9.8"},
    "data_report": {
        "sources": [{"name": "a.jsonl", "read": 1234, "kept": 1230, "tokens": 9000, "target_tokens": 4000}],
        "train_rows": 1230,
    },
    "final_metrics": {"eval_loss_before": 2.75, "eval_loss": 0.25},
}


def card(**changes) -> str:
    return model_card({**RECORD, **changes}, [])


def recipe(**changes):
    return {**RECORD["recipe"], **changes}


def front_matter(text: str):
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def code(text: str) -> str:
    return re.search(r"```python\n(.*?)\n```", text, re.DOTALL)[1]


def test_front_matter_of_an_adapter():
    assert front_matter(card()) == {
        "base_model": "some-org/Tiny-Instruct",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["hf_align", "sft", "lora"],
    }


def test_front_matter_of_a_full_model_and_no_licence_is_claimed():
    values = front_matter(card(recipe=recipe(adapter="none")))
    assert values["library_name"] == "transformers"
    assert "license" not in values
    assert "lora" not in values["tags"]


def test_a_local_base_model_is_marked_as_such(tmp_path):
    text = card(recipe=recipe(model_name_or_path=str(tmp_path)))
    assert front_matter(text)["base_model"] == str(tmp_path)
    assert "put its hub id here" in text
    assert "put its hub id here" not in card()


def test_the_hub_accepts_the_front_matter(tmp_path):
    from huggingface_hub import ModelCard

    write_json(tmp_path / "run.json", RECORD)
    loaded = ModelCard.load(write_model_card(tmp_path))
    assert loaded.data.base_model == "some-org/Tiny-Instruct"
    assert loaded.data.library_name == "peft"


@pytest.mark.parametrize(
    ("adapter", "loader"),
    [("lora", "peft.AutoPeftModelForCausalLM"), ("none", "AutoModelForCausalLM")],
)
def test_the_loading_code_has_three_lines_and_names_the_folder(adapter, loader):
    source = code(card(recipe=recipe(adapter=adapter, output_dir="runs/it's here")))
    assert len(source.splitlines()) == 3
    assert f"model = {loader}.from_pretrained(" in source
    folders = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    assert folders == ["runs/it's here"] * 2


def test_an_adapter_that_peft_lacks_is_loaded_by_this_package():
    text = card(recipe=recipe(adapter="bottleneck", output_dir="runs/b"))
    source = code(text)
    ast.parse(source)
    assert 'load_run_model(find_model(ModelConfig("runs/b")))' in source.replace("'", '"')
    assert "library_name: hf_align" in text


def test_the_card_says_what_was_trained_on_what_and_how_it_went():
    text = card()
    assert "# Tiny-Instruct, LoRA (r = 8)" in text
    assert (
        "fine-tuning of `some-org/Tiny-Instruct` on `a.jsonl` and `org/set`, made with hf_align 9.8." in text
    )
    assert "The loss counts the assistant's turns." in text
    assert "| Held-out loss | 2.75 → 0.25 | perplexity 1.284 |" in text
    assert "1,234" in text
    assert "4,000 target tokens" in text
    assert "Seed 7. Versions: python 3.11.1, torch 2.99." in text


def test_without_an_evaluation_the_card_says_so():
    assert "No held-out loss was measured after training" in card(final_metrics={})
    assert "No held-out loss was measured after training" not in card()


def test_an_unfinished_run_is_no_finished_model():
    assert "**This run is not complete (status: interrupted).**" in card(status="interrupted")
    assert "not complete" not in card()


def test_an_empty_record_still_has_a_card():
    text = model_card({}, [])
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert "not complete (status: unknown)" in text


def test_names_cannot_break_the_page():
    name = "a|b`c`\n# <script>"
    data = {"sources": [{"name": name, "read": 1}]}
    text = card(recipe=recipe(run_name=name, datasets=[{"path": name}]), data_report=data)
    assert "\n# <script>" not in text
    table = next(line for line in text.splitlines() if line.startswith("| a"))
    assert len(re.findall(r"(?<!\\)\|", table)) == len(
        re.findall(r"\|", text.split("## Data")[1].splitlines()[2])
    )
    assert "``a|b`c` # <script>``" in text


def test_the_same_record_gives_the_same_card_and_is_left_alone():
    record = copy.deepcopy(RECORD)
    assert model_card(record, []) == model_card(copy.deepcopy(RECORD), [])
    assert record == RECORD


def test_writing_needs_a_record(tmp_path):
    with pytest.raises(UserError, match=r"run\.json is missing"):
        write_model_card(tmp_path)
