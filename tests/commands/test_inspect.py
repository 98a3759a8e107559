"""``hf-align inspect``: the mask of a recipe's rows, without any model weights."""

from __future__ import annotations

import json
import re

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_align.commands.inspect import Display, main, split_arguments, stage_of
from hf_align.errors import UserError

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ROWS = [{"instruction": f"Add 1 to {n}.", "input": "", "output": f"{n + 1} 好🙂"} for n in range(8)]


@pytest.fixture
def recipe(tmp_path):
    """A recipe, its data and a folder with nothing but tokenizer files."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = TEMPLATE
    fast.save_pretrained(tmp_path / "model")
    assert not list((tmp_path / "model").glob("*.safetensors"))
    assert not (tmp_path / "model" / "config.json").exists()
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model_name_or_path: {tmp_path}/model\ndatasets:\n  - path: {tmp_path}/rows.jsonl\n"
        f"output_dir: {tmp_path}/run\n",
        encoding="utf-8",
    )
    return path


def test_rows_are_printed_and_the_page_is_written(recipe, capsys):
    assert main(["--config", str(recipe), "--rows", "2"]) == 0
    printed = capsys.readouterr().out
    # Rows 3 and 7 of 8 are the middles of the two halves. The answer and its end are trained.
    # (The last brackets are those of the legend.)
    assert re.findall(r"⟦(.*?)⟧", printed)[:-1] == ["3·好🙂<|im_end|>", "7·好🙂<|im_end|>"]
    assert "rows.jsonl:3 (10 of" in printed
    assert "\x1b" not in printed
    page = (recipe.parent / "run-inspect.html").read_text(encoding="utf-8")
    assert str(recipe.parent / "run-inspect.html") in printed
    assert not (recipe.parent / "run").exists(), "a run must find its folder empty"
    marks = re.findall(r"<mark[^>]*>(.*?)</mark>", page.partition("<h3>")[2])
    assert re.sub(r"<[^>]*>", "", "".join(marks)) == "3·好🙂&lt;|im_end|&gt;7·好🙂&lt;|im_end|&gt;"
    assert "20 of their" in page


def test_recipe_keys_and_own_options_mix_in_any_order(recipe, tmp_path, capsys):
    page = tmp_path / "pages" / "x.html"
    main(["--html", str(page), "--train_on=all", "--config", str(recipe), "--rows=1", "--color"])
    assert page.exists()
    assert "\x1b[1;36m" in capsys.readouterr().out
    assert not (recipe.parent / "run").exists()


def test_more_rows_than_there_are(recipe, capsys):
    main(["--config", str(recipe), "--rows", "99"])
    assert capsys.readouterr().out.count("⟦") == 8 + 1  # the legend has one


def test_streams_show_their_first_rows(recipe, capsys):
    options = ["--streaming", "--max_steps", "1", "--save_strategy", "no", "--rows", "3"]
    main(["--config", str(recipe), *options])
    assert capsys.readouterr().out.count("⟦") == 3 + 1


@pytest.mark.parametrize(
    ("arguments", "display", "rest"),
    [
        ([], Display(), []),
        (["--rows", "3", "--seed", "1"], Display(rows=3), ["--seed", "1"]),
        (["--seed=1", "--html=a.html"], Display(html="a.html"), ["--seed=1"]),
        (["--streaming", "--color"], Display(color=True), ["--streaming"]),
        (["--config", "r.yaml", "--rows=2"], Display(rows=2), ["--config", "r.yaml"]),
        (["--stage", "dpo", "--beta", "1"], Display(stage="dpo"), ["--beta", "1"]),
    ],
)
def test_own_options_are_separated(arguments, display, rest):
    assert split_arguments(arguments) == (display, rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "0"], "--rows: found '0', expected a whole number of at least 1"),
        (["--rows", "two"], "--rows: found 'two'"),
        (["--rows", "²"], "--rows: found '²'"),
        (["--rows"], "--rows: a value is missing"),
        (["--html", "--rows", "1"], "--html: a value is missing"),
        (["--html", ""], "--html: found an empty value"),
        (["--html", "."], "--html: found the folder"),
        (["--rows", "1", "--rows=2"], "--rows: this option is given twice"),
        (["--color=1"], "--color: found a value"),
        (
            ["--stage", "dop"],
            r"--stage: found 'dop', expected sft, dpo, reward, kto, pretrain\. Did you mean 'dpo'",
        ),
        (["--stage"], "--stage: a value is missing, expected sft or dpo or reward"),
    ],
)
def test_wrong_own_options(arguments, message):
    with pytest.raises(UserError, match=message):
        split_arguments(arguments)


def test_wrong_recipe_keys_are_named(recipe):
    with pytest.raises(UserError, match="max_length"):
        main(["--config", str(recipe), "--max_lenght", "3"])


def test_help_lists_recipe_keys_and_own_options(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "--max_length" in printed
    assert "--rows N" in printed
    assert all(len(line) <= 100 for line in printed.splitlines())


@pytest.fixture
def pairs_recipe(recipe):
    """The same recipe with rows that compare answers."""
    path = recipe.parent / "rows.jsonl"
    rows = [
        {"instruction": row["instruction"], "chosen": row["output"], "rejected": "No."} for row in ROWS[:7]
    ]
    rows.append({"instruction": "x", "chosen": "y", "rejected": "y"})
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    with recipe.open("a", encoding="utf-8") as stream:
        stream.write("max_malformed_share: 0.2\n")
    return recipe


@pytest.mark.parametrize(
    "option",
    [["--stage", "dpo"], ["--stage=reward"], ["--beta", "0.2"], ["--center_rewards_coefficient=0.1"]],
)
def test_compared_answers_are_shown_with_their_prompt_once(pairs_recipe, option, capsys):
    assert main(["--config", str(pairs_recipe), "--rows", "1", *option]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Add·1·to·3.") == 1
    assert re.findall(r"⟦(.*?)⟧", printed)[:-1] == ["4·好🙂<|im_end|>", "No.<|im_end|>"]
    assert "-- Answer 1: better (score 1; 10 of " in printed
    assert "-- Answer 2: worse (score 0; 4 of " in printed
    assert "1 malformed (1 identical answers), the first:" in printed
    page = (pairs_recipe.parent / "run-inspect.html").read_text(encoding="utf-8")
    assert page.count("Answer 1: better") == 1
    assert "Malformed rows by kind" in page


def test_a_recipe_that_could_be_of_any_stage_is_one_of_fine_tuning(pairs_recipe):
    with pytest.raises(
        UserError, match=r"dpo and reward; .*\(This recipe was taken for one of sft; see --stage"
    ):
        main(["--config", str(pairs_recipe)])
    with pytest.raises(UserError, match=r"dpo and reward; here are read: [^()]*$"):
        main(["--config", str(pairs_recipe), "--stage", "sft"])


def test_the_stage_is_told_from_the_keys(tmp_path):
    recipe = tmp_path / "r.yaml"

    def stage(text, *options):
        recipe.write_text(text, encoding="utf-8")
        return stage_of(["--config", str(recipe), *options])

    assert stage("seed: 1\n") == "sft"
    assert stage("seed: 1\nloss: ipo\n") == "dpo"
    assert stage("seed: 1\n", "--loss", "ipo") == "dpo"
    assert stage("seed: 1\nhead_init: zero\nshare_prefix: false\n") == "reward"
    assert stage("share_prefix: false\n") == "dpo"
    # A key that no stage has does not decide; the message about it comes from the stage with the most keys.
    assert stage("beta: 1\nmax_lenght: 3\n") == "dpo"
    assert stage("") == "sft"
    assert stage_of([]) == "sft"


def test_help_of_a_stage(capsys):
    assert main(["--stage", "dpo", "--help"]) == 0
    assert "--ipo_reduction" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("architecture", "options"), [("gpt2", {}), ("t5", {"streaming": True}), ("bert", {})]
)
def test_a_batch_of_pre_training_is_shown_with_its_noise(tmp_path, architecture, options, capsys):
    from helpers.tiny_pretraining import make_inputs
    from helpers.tiny_pretraining import recipe as pretraining

    keys = pretraining(make_inputs(tmp_path / "inputs"), tmp_path / "run", architecture, **options)
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(keys), encoding="utf-8")
    assert main(["--config", str(path), "--rows", "2"]) == 0
    printed = capsys.readouterr().out
    page = (tmp_path / "run-inspect.html").read_text(encoding="utf-8")
    assert str(tmp_path / "run-inspect.html") in printed and not (tmp_path / "run").exists()
    assert page.count('<dl class="figure">') == 2 and "2 rows of a batch" in page
    parts = {"gpt2": ("read", "predicted"), "t5": ("inputs", "targets"), "bert": ("segments", "label")}
    assert all(f"\n{part} " in printed for part in parts[architecture])
    main(["--config", str(path), "--rows", "1", "--html", str(tmp_path / "x.html"), "--color"])
    assert "\x1b[" in capsys.readouterr().out and (tmp_path / "x.html").exists()


def test_labelled_answers(tmp_path, capsys):
    from helpers.tiny_unpaired import make_inputs

    given = make_inputs(tmp_path, rows=4)
    arguments = [f"--{key}={value}" for key, value in given.items()]
    page = tmp_path / "page.html"
    assert main([*arguments, "--loss_type", "kto", "--rows", "2", "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "-- Answer 1: desirable (score 1" in printed and page.is_file()
