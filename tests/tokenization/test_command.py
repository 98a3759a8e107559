"""hf-align tokenizer from a recipe to the folder: training, extending, comparing, and the pages."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.tiny_corpus import CHINESE, ENGLISH
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hf_align.commands import report, tokenizer
from hf_align.errors import UserError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for name, texts in (("en", ENGLISH), ("zh", CHINESE)):
        rows = [{"text": text, "language": name} for text in texts]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def _run(folder, output, *more):
    arguments = ["--datasets", str(folder / "en.jsonl"), "--output_dir", str(output), *more]
    return tokenizer.main(arguments)


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "tokenizer"
    more = [
        "--vocab_size",
        "450",
        "--report_by",
        "language",
        "--eval_split_size",
        "0.2",
        "--num_samples",
        "2",
    ]
    return output, _run(files, output, *more)


def test_the_folder_is_a_tokenizer_with_its_record_and_pages(trained):
    output, record = trained
    assert record["status"] == "completed" and record["command"] == "tokenizer"
    assert json.loads((output / "run.json").read_bytes()) == json.loads(json.dumps(record))
    loaded = AutoTokenizer.from_pretrained(output)
    assert len(loaded) == 450
    (found,) = record["tokenizer"]["figures"]
    held_out = ENGLISH[4::5]
    assert found["total"]["texts"] == len(held_out)
    assert found["total"]["tokens"] == sum(len(loaded(text).input_ids) for text in held_out)
    assert found["by"]["column"].keys() == {"en"}
    ratio = sum(map(len, held_out)) / found["total"]["tokens"]
    assert record["final_metrics"]["token_characters"] == pytest.approx(ratio)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Byte-level BPE tokenizer, 450 tokens" in page and f"{ratio:.2f}" in page
    assert page.count('class="tokens segments"') == 2 and "<svg" in page and "By group" in page
    assert "flatters" not in page
    card = (output / "README.md").read_text(encoding="utf-8")
    assert f"{ratio:.2f}" in card and "AutoTokenizer" in card


def test_the_report_is_written_again_from_the_record(trained):
    output, _ = trained
    page = (output / "report.html").read_bytes()
    (output / "report.html").unlink()
    report.main([str(output)])
    assert (output / "report.html").read_bytes() == page


def test_measuring_on_the_training_text_says_so(files, tmp_path, capsys):
    _run(files, tmp_path / "out", "--vocab_size", "300", "--tokenizer_type", "byte_level_bpe")
    assert "on its training text" in capsys.readouterr().out
    assert "which flatters it" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_another_tokenizer_is_compared(files, trained, tmp_path, capsys):
    more = ["--tokenizer_type", "wordpiece", "--vocab_size", "400", "--compare_with", str(trained[0])]
    record = _run(files, tmp_path / "out", *more)
    own, other = record["tokenizer"]["figures"]
    assert (own["kind"], other["kind"]) == ("WordPiece", "BPE")
    assert own["total"]["characters"] == other["total"]["characters"]
    assert "tokenizer (450 tokens)" in capsys.readouterr().out
    sample = record["segmentations"][0]
    assert [part["name"] for part in sample["pieces"]] == ["this tokenizer", "tokenizer"]
    assert all(
        "".join(piece for piece, _, _ in part["pieces"]) == sample["text"] for part in sample["pieces"]
    )


def test_a_model_is_extended_with_its_tokenizer(files, trained, tmp_path, capsys):
    base = tmp_path / "base"
    AutoTokenizer.from_pretrained(trained[0]).save_pretrained(base)
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=450, tie_word_embeddings=True, **shape))
    model.save_pretrained(base)
    record = tokenizer.main(
        ["--extend", str(base), "--new_tokens", "100", "--datasets", str(files / "zh.jsonl"),
         "--output_dir", str(tmp_path / "out"), "--eval_datasets", f"[{files}/zh.jsonl, {files}/en.jsonl]"]
    )  # fmt: skip
    assert record["extension"]["first_id"] == 450 and record["extension"]["count"] == 100
    assert record["extension"]["parameters"] - record["extension"]["parameters_before"] == 100 * 8
    extended, old = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / "out", base))
    assert all(extended(text).input_ids == old(text).input_ids for text in ENGLISH if text.isascii())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    rows = loaded.get_input_embeddings().weight
    assert rows.shape == (550, 8) and rows is loaded.get_output_embeddings().weight
    assert torch.equal(rows[:450], model.get_input_embeddings().weight)
    new, before = record["tokenizer"]["figures"]
    gain = [item["by"]["script"]["Chinese (Han)"] for item in (new, before)]
    after, earlier = (counts["tokens"] / counts["characters"] for counts in gain)
    assert f"Chinese (Han): {after:.2f} tokens a character, {earlier:.2f} before" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "base, 100 tokens added" in page and f"{after:.2f}" in page


def test_a_tokenizer_is_extended_alone(files, trained, tmp_path):
    more = ["--extend", str(trained[0]), "--new_tokens", "20", "--eval_datasets", str(files / "zh.jsonl")]
    record = tokenizer.main(
        ["--datasets", str(files / "zh.jsonl"), "--output_dir", str(tmp_path / "out"), *more]
    )
    assert "model" not in record["extension"]
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 470


def test_mistakes_are_found_before_anything_is_written(files, tmp_path):
    for arguments, message in (
        (["--compare_with", str(tmp_path / "none")], "compare_with: the folder"),
        (["--extend", str(tmp_path / "none")], "extend: the folder"),
        (["--extend_model", "true"], "--extend_model: this has no effect without a model"),
    ):
        with pytest.raises(UserError, match=message):
            _run(files, tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()


def test_a_run_that_fails_is_marked(files, tmp_path):
    with pytest.raises(UserError, match="vocab_size: found 10"):
        _run(files, tmp_path / "out", "--vocab_size", "10")
    assert json.loads((tmp_path / "out" / "run.json").read_bytes())["status"] == "interrupted"


def test_special_tokens_are_added_to_a_model(files, trained, tmp_path):
    base = tmp_path / "base"
    old = AutoTokenizer.from_pretrained(trained[0])
    old.save_pretrained(base)
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=450, tie_word_embeddings=False, **shape))
    model.save_pretrained(base)
    options = ["--extend", str(base), "--additional_special_tokens", "[<call>, </call>]"]
    for count, learned in (("0", 0), ("20", 20)):
        out = tmp_path / count
        record = tokenizer.main(
            ["--datasets", str(files / "zh.jsonl"), "--output_dir", str(out), "--new_tokens", count, *options]
        )
        first = 450 + learned
        assert record["extension"]["count"] == learned + 2
        loaded = AutoTokenizer.from_pretrained(out)
        assert loaded("a<call>").input_ids == [*old("a").input_ids, first]
        assert {"<call>", "</call>"} <= set(loaded.all_special_tokens) and len(loaded) == first + 2
        extended = AutoModelForCausalLM.from_pretrained(out)
        for table, was in (
            (extended.get_input_embeddings().weight, model.get_input_embeddings().weight),
            (extended.get_output_embeddings().weight, model.get_output_embeddings().weight),
        ):
            assert torch.equal(table[:450], was)
            torch.testing.assert_close(table[first], was[old("<call>").input_ids].mean(0))
    with pytest.raises(UserError, match="new_tokens: there is nothing to add"):
        _run(files, tmp_path / "none", "--extend", str(base), "--new_tokens", "0")
