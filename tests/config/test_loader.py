"""Recipe files: what is read, and the message for each kind of mistake with its file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_align.config import DatasetConfig, load_recipe
from hf_align.errors import UserError
from hf_align.sft.recipe import SftConfig

START = "model_name_or_path: m\ndatasets: a.jsonl\n"


@pytest.fixture
def recipe(tmp_path: Path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "r.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return str(path)

    return write


def _refused(path: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(SftConfig, path)
    message = str(caught.value)
    assert message.startswith(path)
    return message.removeprefix(path)


def test_a_small_recipe(recipe):
    path = recipe(START)
    config = load_recipe(SftConfig, path)
    assert config.model.model_name_or_path == "m"
    assert config.data.datasets == [DatasetConfig("a.jsonl")]
    assert config.recipe_path == path
    assert config.overrides == {}


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("learning_rate: 1e-4", "learning_rate", 1e-4),  # text to YAML 1.1
        ("learning_rate: 1E-4", "learning_rate", 1e-4),
        ("learning_rate: 1.e-4", "learning_rate", 1e-4),
        ("learning_rate: .5", "learning_rate", 0.5),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("max_length: 1_000", "max_length", 1000),
        ("max_length: +12", "max_length", 12),
        ("eval_strategy: no", "eval_strategy", "no"),  # false to YAML 1.1
        ("eval_strategy: 'no'", "eval_strategy", "no"),
        ("packing: no", "packing", False),
        ("packing: off", "packing", False),
        ("packing: True", "packing", True),
        ("save_total_limit: null", "save_total_limit", None),
        ("save_total_limit: ~", "save_total_limit", None),
        ("save_total_limit:", "save_total_limit", None),
        ("run_name: '12'", "run_name", "12"),
        ("run_name: !!str 12", "run_name", "12"),
        ("system_prompt: |-\n  One\n  two", "system_prompt", "One\ntwo"),
        ("system_prompt: 你好 😀", "system_prompt", "你好 😀"),
        ("report_to: tensorboard", "report_to", ["tensorboard"]),
        ("report_to: [tensorboard, wandb]", "report_to", ["tensorboard", "wandb"]),
        ("report_to: []", "report_to", []),
        ("report_to: none", "report_to", ["none"]),
        ("lr_scheduler_kwargs: {num_cycles: 5e-1}", "lr_scheduler_kwargs", {"num_cycles": 0.5}),
    ],
)
def test_values_mean_what_is_written(recipe, line, key, value):
    found = load_recipe(SftConfig, recipe(f"{START}{line}\n")).to_flat()[key]
    assert found == value
    assert type(found) is type(value)


def test_data_sets_as_text_list_and_mapping(recipe):
    text = """
    model_name_or_path: m
    datasets:
      - a.jsonl
      - path: b.csv
        weight: 2
        columns: {prompt: question}
      - {path: c, name: main, split: test, max_rows: 5, format: text}
    eval_datasets: [d.txt]
    """
    data = load_recipe(SftConfig, recipe(text)).data
    assert data.datasets == [
        DatasetConfig("a.jsonl"),
        DatasetConfig("b.csv", weight=2.0, columns={"prompt": "question"}),
        DatasetConfig("c", name="main", split="test", max_rows=5, format="text"),
    ]
    assert data.eval_datasets == [DatasetConfig("d.txt")]


def test_aliases_are_read(recipe):
    text = START + "eval_datasets: &held [b.jsonl]\nadapter: lora\nmodules_to_save: *held\n"
    config = load_recipe(SftConfig, recipe(text))
    assert config.adapter.modules_to_save == ["b.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lora_rnk: 4", ":3: lora_rnk: unknown key. Did you mean 'lora_"),
        ("train_on_inputs: true", ":3: train_on_inputs: unknown key. Here: write train_on"),
        ("weight: 2", ":3: weight: unknown key. 'weight' belongs into an entry of datasets"),
        ("xyzzy: 2", ":3: xyzzy: unknown key."),
        ("datasets: b", ":3: datasets: this key is given twice (first in line 2)."),
        ("learning_rate: fast", ":3: learning_rate: found the text 'fast', expected a number above 0."),
        ("learning_rate: '1e-4'", ":3: learning_rate: found the text '1e-4', expected a number"),
        ("learning_rate: [0.1]", ":3: learning_rate: found a list, expected a number above 0."),
        ("learning_rate: {a: 1}", ":3: learning_rate: found a mapping, expected a number above 0."),
        ("learning_rate:", ":3: learning_rate: found nothing (null), expected a number above 0."),
        ("learning_rate: true", ":3: learning_rate: found true, expected a number above 0."),
        ("learning_rate: -1", ":3: learning_rate: found the number -1, expected a number above 0."),
        ("learning_rate: .inf", ":3: learning_rate: found the number inf (not finite)"),
        ("learning_rate: .nan", ":3: learning_rate: found the number nan (not finite)"),
        ("learning_rate: 1e-999", ":3: learning_rate: found the"),
        ("learning_rate: 1e999", ":3: learning_rate: found the number inf (not finite)"),
        ("learning_rate: 1:30.5", ":3: learning_rate: found the number '1:30.5'"),
        (
            "weight_decay: 12345678901234567890",
            ":3: weight_decay: found the number 12345678901234567890 (too",
        ),
        ("seed: 010", ":3: seed: found the number '010'"),  # 8 to YAML 1.1, 10 to YAML 1.2
        ("seed: 0x10", ":3: seed: found the number '0x10'"),
        ("seed: 1:30", ":3: seed: found the number '1:30'"),
        ("seed: 3.0", ":3: seed: found the number 3, expected a whole number"),
        ("seed: 1e3", ":3: seed: found the text '1e3', expected a whole number"),
        ("seed: yes", ":3: seed: found true, expected a whole number"),
        (f"seed: {'9' * 5000}", ":3: seed: found the number '999"),
        ("packing: 1", ":3: packing: found the number 1, expected true or false."),
        ("packing: 'yes'", ":3: packing: found the text 'yes', expected true or false."),
        ("run_name: 12", ":3: run_name: found the number 12, expected text or null (not empty)."),
        ("run_name: 2024-01-31", ":3: run_name: found the date '2024-01-31'"),
        ("run_name: [a]", ":3: run_name: found a list, expected text"),
        ('run_name: "\\ud800"', ":3: run_name: found the text '\\ud800' (half of a character"),
        ("run_name: !!binary aGk=", ":3: run_name: found the value 'aGk=' (tag binary)"),
        ("run_name: !!python/object:os.system {}", ":3: run_name: found a mapping"),
        ("run_name: !secret x", ":3: run_name: found the value 'x' (tag !secret)"),
        ("optim: adam_8bit", "Did you mean 'adamw_8bit'?"),
        ("eval_strategy: yes", ":3: eval_strategy: found true, expected one of: no, steps, epoch."),
        ("report_to: [wandb, 3]", ":3: report_to: found the number 3, expected a list, each item one of"),
        ("modules_to_save: [[a]]", ":3: modules_to_save: found a list, expected"),
        ("eval_datasets: 3", ":3: eval_datasets: found the number 3, expected a path or a mapping"),
        ("eval_datasets: [{path: b, weigth: 2}]", "eval_datasets entry 1: weigth: unknown key of a data set"),
        ("eval_datasets:\n  - b\n  - path: c\n    weight: 0", ":6: eval_datasets entry 2: weight: found"),
        ("eval_datasets: [{weight: 2}]", ":3: eval_datasets entry 1: the key 'path' is missing."),
        ("eval_datasets: [{path: b, path: c}]", "eval_datasets entry 1: path: this key is given twice"),
        ("eval_datasets: [[b]]", ":3: eval_datasets entry 1: found a list, expected a path or a mapping"),
        ("eval_datasets: [{path: b, columns: [c]}]", "columns: found a list, expected a mapping from names"),
        ("eval_datasets: [{path: b, columns: {prompt: 3}}]", "columns: found the number 3"),
        ("eval_datasets: [{path: b, columns: {3: c}}]", "found '3' as a key, expected a name"),
        ("<<: {lora_r: 3}", ":3: <<: merge keys (<<) are not supported"),
        ("3: x", ":3: recipe: found '3' as a key, expected a name."),
        ("? [a]\n: x", ":3: recipe: found 'a list or mapping' as a key"),
        ("modules_to_save: &loop [*loop]", ":3: modules_to_save: found a list, expected"),
        ("lr_scheduler_kwargs: &loop {num_cycles: *loop}", ":3: lr_scheduler_kwargs: found a mapping"),
        ("eval_datasets: &loop [*loop]", ":3: eval_datasets entry 1: found a list"),
        ("run_name: *nowhere", ":3: this is not valid YAML"),
        ("run_name: 'open", "this is not valid YAML"),
        ("run_name: a: b", ":3: this is not valid YAML"),
        ("\trun_name: a", ":3: this is not valid YAML: found a tab"),
        ("run_name: \x07", ":3: this is not valid YAML"),
        ('run_name: "\\U00110000"', "this is not valid YAML"),
        ("---\nrun_name: a", "this is not valid YAML"),
        ("run_name: " + "[" * 5000, "nested too deeply"),
        ("lora_r: 4", ":3: lora_r: this has no effect, because adapter is none by default"),
        ("shuffle_buffer_size: 4", ":3: shuffle_buffer_size: this has no effect"),
        ("save_steps: 4", ":3: save_steps: this has no effect, because save_strategy is epoch by default"),
        (
            "adapter: lora\nload_in_8bit: true\nload_in_4bit: true",
            ":5: load_in_4bit: only one of the two can be true. (See ",
        ),
        ("load_in_4bit: true", ":3: load_in_4bit: quantised weights cannot be trained"),
        ("eval_strategy: epoch", ":3: eval_strategy: there is nothing to evaluate on"),
    ],
)
def test_mistakes_are_named_with_their_place(recipe, line, message):
    assert message in _refused(recipe(f"{START}{line}\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this recipe is empty"),
        (b"# nothing\n", "this recipe is empty"),
        (b"- a\n- b\n", ":1: found a list, expected 'key: value' lines."),
        (b"just text\n", ":1: found the text 'just text', expected"),
        (b"null\n", ":1: found the text 'null', expected"),
        (b"a: \xff\xfe\n", "this recipe is not UTF-8 text (byte 3)"),
        ("a: b".encode("utf-16"), "this recipe is not UTF-8 text (byte 0)"),
        (b"datasets: a\n", "the required key 'model_name_or_path' is missing"),
        (b"model_name_or_path: m\n", "the required key 'datasets' is missing"),
        (b"model_name_or_path: m\ndatasets: []\n", ":2: datasets: found an empty list, expected"),
        (b"model_name_or_path: ''\ndatasets: a\n", ":1: model_name_or_path: found the text ''"),
        (b"{}", "the required key 'model_name_or_path' is missing"),
        (b"\x00", "this is not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(recipe, content, message):
    assert message in _refused(recipe(content))


def test_a_byte_order_mark_is_allowed(recipe):
    assert load_recipe(SftConfig, recipe(START.encode("utf-8-sig"))).model.model_name_or_path == "m"


def test_missing_file_lists_the_recipes_beside_it(recipe, tmp_path):
    recipe(START)
    with pytest.raises(UserError, match=r"there is no such recipe file\. In .* there are: r\.yaml"):
        load_recipe(SftConfig, tmp_path / "q.yaml")
    with pytest.raises(UserError, match="there is no such recipe file"):
        load_recipe(SftConfig, tmp_path / "nowhere" / "q.yaml")


def test_a_folder_or_an_impossible_name_is_no_recipe(tmp_path):
    for path in (str(tmp_path), "a\0b"):
        with pytest.raises(UserError, match="cannot be read"):
            load_recipe(SftConfig, path)


def test_python_overrides(recipe):
    config = load_recipe(SftConfig, recipe(START), {"max_steps": 3, "datasets": ["b"]})
    assert config.training.max_steps == 3
    assert config.data.datasets == [DatasetConfig("b")]
    assert config.overrides["max_steps"] == 3
    assert config.overrides["datasets"][0]["path"] == "b"
    with pytest.raises(UserError, match="override 'max_steps': found the text '3'"):
        load_recipe(SftConfig, recipe(START), {"max_steps": "3"})
    with pytest.raises(UserError, match=r"override 'max_step': unknown key\. Did you mean 'max_steps'"):
        load_recipe(SftConfig, recipe(START), {"max_step": 3})
