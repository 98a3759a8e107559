"""Best-of-N end to end on a tiny model: files, resuming, seeds, and mistakes with their messages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_best_of_n import arguments, lines, make_inputs, run
from helpers.tiny_rewards import make_inputs as make_pairs
from helpers.tiny_rewards import run as train_reward_model

from hf_align.__main__ import main as cli
from hf_align.best_of_n import answers, sampling
from hf_align.commands import sft
from hf_align.errors import UserError


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory) -> Path:
    """A run that was not interrupted."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(inputs, folder)
    return folder


def vowels(text: str) -> int:
    return sum(text.count(vowel) for vowel in "aeiou")


def test_every_answer_is_scored_and_the_best_is_kept(finished):
    samples = lines(finished / "samples.jsonl")
    assert [row["source"].rpartition(":")[2] for row in samples] == ["1", "2", "3", "4", "5", "6"]
    for row in samples:
        assert len(row["answers"]) == len(row["scores"]) == len(row["stopped"]) == 4
        assert row["scores"] == row["rewards"]["vowels"] == [vowels(text) for text in row["answers"]]
        assert "batch" not in row
    best = {row["source"]: row for row in lines(finished / "best.jsonl")}
    for row in samples:
        candidates = [s for s, text in zip(row["scores"], row["answers"], strict=True) if text.strip()]
        assert best[row["source"]]["reward"] == max(candidates)
        assert vowels(best[row["source"]]["completion"][0]["content"]) == max(candidates)


def test_run_json_and_the_pages(finished):
    record = json.loads((finished / "run.json").read_text())
    samples = lines(finished / "samples.jsonl")
    assert (record["command"], record["status"]) == ("best-of-n", "completed")
    found = record["best_of_n"]
    every = [score for row in samples for score in row["scores"]]
    assert found["curve"][0]["reward"] == pytest.approx(sum(every) / len(every))
    assert found["curve"][-1]["reward"] == pytest.approx(sum(max(row["scores"]) for row in samples) / 6)
    assert found["files"]["samples.jsonl"] == 6
    assert record["tokens_per_second"] > 0
    page = (finished / "report.html").read_text()
    assert "Reward of the best of n" in page
    assert "best of 4" in page
    assert "Optimizer" not in page
    card = (finished / "README.md").read_text()
    assert card.startswith("# Best of 4")
    assert "mine.py:vowels" in card


def test_hf_align_report_writes_the_same_pages_again(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    for name in ("report.html", "README.md"):
        (copy / name).unlink()
    assert cli(["report", str(copy)]) == 0
    assert (copy / "README.md").read_bytes() == (finished / "README.md").read_bytes()
    assert (copy / "report.html").stat().st_size > 10_000


def test_the_same_seed_gives_the_same_answers(inputs, finished, tmp_path):
    run(inputs, tmp_path / "again")
    run(inputs, tmp_path / "other", seed=43)
    first = (finished / "samples.jsonl").read_bytes()
    assert (tmp_path / "again" / "samples.jsonl").read_bytes() == first
    assert (tmp_path / "other" / "samples.jsonl").read_bytes() != first


def test_the_same_file_by_another_name_gives_the_same_answers(inputs, finished, tmp_path, monkeypatch):
    folder = Path(inputs["datasets"]).parent
    (tmp_path / "copy.jsonl").write_bytes(Path(inputs["datasets"]).read_bytes())
    monkeypatch.chdir(folder)
    for number, name in enumerate(("./train.jsonl", str(tmp_path / "copy.jsonl"))):
        run({**inputs, "datasets": name}, tmp_path / f"run{number}")
        ours, theirs = (lines(place / "samples.jsonl") for place in (tmp_path / f"run{number}", finished))
        assert [row["answers"] for row in ours] == [row["answers"] for row in theirs]


def test_rows_reach_the_function_with_all_their_columns(inputs, tmp_path):
    file = inputs["reward_functions"].rpartition(":")[0]
    record = run(inputs, tmp_path / "run", reward_functions=f"{file}:wanted", missing_eos_penalty=0.5)
    rows = lines(Path(inputs["datasets"]))
    for row, data in zip(lines(tmp_path / "run" / "samples.jsonl"), rows, strict=True):
        expected = float("Oslo" in data["output"])
        assert row["rewards"]["wanted"] == [expected] * 4
        assert row["scores"] == [expected - 0.5 * (not stopped) for stopped in row["stopped"]]
    assert 0 < record["best_of_n"]["undecided"] <= 1


def _interrupt_after(monkeypatch, batches: int) -> list[int]:
    """Stop the run when so many batches are written; the list counts the batches that are sampled."""
    sampled: list[int] = []
    append, answer = answers.append_answers, sampling.Sampler.answer

    def appending(folder, answered):
        append(folder, answered)
        if len(sampled) == batches:
            raise KeyboardInterrupt

    def counting(self, prompts):
        sampled.append(len(prompts))
        return answer(self, prompts)

    monkeypatch.setattr(answers, "append_answers", appending)
    monkeypatch.setattr(sampling.Sampler, "answer", counting)
    return sampled


def test_an_interrupted_run_goes_on_and_ends_the_same(inputs, finished, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, folder)
    assert "the same command goes on" in capsys.readouterr().err
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert len(lines(folder / "samples.jsonl")) == 2
    sampled = _interrupt_after(monkeypatch, 99)
    run(inputs, folder)
    assert sampled == [2, 2]
    for name in ("samples.jsonl", "best.jsonl", "rankings.jsonl", "pairs.jsonl"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.mark.parametrize(
    "cut", [1, 40, 400], ids=["in its last byte", "in its last line", "in its first line"]
)
def test_a_batch_that_was_cut_off_while_written_is_done_again(inputs, finished, tmp_path, monkeypatch, cut):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, folder)
    path = folder / "samples.jsonl"
    content = path.read_bytes()
    lengths = [len(line) + 1 for line in content.splitlines()]
    lost = cut if cut < lengths[-1] else lengths[-1] + 5
    path.write_bytes(content[: len(content) - lost])
    sampled = _interrupt_after(monkeypatch, 99)
    run(inputs, folder)
    assert sampled == [2, 2]
    assert path.read_bytes() == (finished / "samples.jsonl").read_bytes()


def test_a_finished_run_samples_nothing_again_and_new_prompts_only(inputs, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    few = [{"path": inputs["datasets"], "max_rows": 4}]
    run(inputs, folder, datasets=few)
    before = lines(folder / "samples.jsonl")
    sampled = _interrupt_after(monkeypatch, 99)
    run(inputs, folder, datasets=few, keep_best=2)
    assert sampled == []
    assert len(lines(folder / "best.jsonl")) > 4
    run(inputs, folder)
    assert sampled == [2]
    assert lines(folder / "samples.jsonl")[:4] == before
    run(inputs, folder, datasets=few)  # answers to the others are kept
    assert sampled == [2]
    assert len(lines(folder / "samples.jsonl")) == 6
    assert len(lines(folder / "best.jsonl")) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.5}, r"temperature was 1\.0 and is 0\.5"),
        ({"num_generations": 2}, "num_generations was 4 and is 2"),
        ({"missing_eos_penalty": 1.0}, r"missing_eos_penalty was None and is 1\.0"),
        ({"seed": 1}, "seed was 42 and is 1"),
    ],
)
def test_answers_of_another_recipe_are_not_mixed_in(inputs, finished, options, words):
    before = (finished / "samples.jsonl").read_bytes()
    with pytest.raises(UserError, match=f"cannot be gone on with: {words}.*set resume: false"):
        run(inputs, finished, **options)
    assert (finished / "samples.jsonl").read_bytes() == before


def test_answers_of_another_model_or_reward_are_not_mixed_in(inputs, finished, tmp_path):
    other = make_inputs(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(file.read_text() + "\n# changed\n")
    with pytest.raises(UserError, match=r"scored by other rewards \(vowels\)"):
        run(inputs, finished, reward_functions=f"{file}:vowels")
    from helpers.tiny_checkpoint import save_tiny_checkpoint

    save_tiny_checkpoint(tmp_path / "model", initializer_range=0.3)
    with pytest.raises(UserError, match="they are of a model with other weights"):
        run({**inputs, "model_name_or_path": other["model_name_or_path"]}, finished)


def test_an_earlier_run_is_moved_aside_on_request(inputs, tmp_path):
    folder = tmp_path / "run"
    run(inputs, folder, datasets=[{"path": inputs["datasets"], "max_rows": 2}])
    run(inputs, folder, temperature=0.5, resume=False)
    moved = [path for path in tmp_path.iterdir() if path.name.startswith("run.2")]
    assert len(moved) == 1
    assert len(lines(moved[0] / "samples.jsonl")) == 2
    assert len(lines(folder / "samples.jsonl")) == 6


def test_folders_of_others_are_left_alone(inputs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty and is not a run folder"):
        run(inputs, tmp_path / "mine")
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "run.json").write_text('{"command": "sft"}')
    with pytest.raises(UserError, match="holds a run of hf-align sft"):
        run(inputs, tmp_path / "sft")


def test_a_file_with_other_lines_is_not_gone_on_with(inputs, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with (folder / "samples.jsonl").open("a") as stream:
        stream.write('{"prompt": "mine"}\n')
    with pytest.raises(UserError, match=r"samples\.jsonl:7: this is no line that best-of-n wrote"):
        run(inputs, folder)


def test_a_failing_function_ends_the_run_with_its_name(inputs, tmp_path, capsys):
    (tmp_path / "bad.py").write_text("def f(p, c, r): return [float('nan')] * len(c)\n")
    given = arguments(inputs, tmp_path / "run", reward_functions=f"{tmp_path}/bad.py:f")
    assert cli(["best-of-n", *given]) == 2
    assert "bad.py:f returned nan for the answer to" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_prompts_that_leave_no_room(inputs, tmp_path):
    with pytest.raises(UserError, match="max_new_tokens: found 250, but no prompt leaves that much room"):
        run(inputs, tmp_path / "run", max_new_tokens=250)


def test_the_best_answers_are_fine_tuning_data(inputs, finished, tmp_path):
    recipe = {
        "model_name_or_path": inputs["model_name_or_path"],
        "datasets": str(finished / "best.jsonl"),
        "output_dir": str(tmp_path / "sft"),
        "use_cpu": True,
        "max_steps": 1,
        "dataset_cache": False,
    }
    path = tmp_path / "sft.yaml"
    path.write_text(json.dumps(recipe))
    record = sft.main(["--config", str(path)])
    assert record["data_report"]["train_rows"] == 6


def test_a_reward_model_of_this_project_beside_a_function(inputs, tmp_path):
    """The model is trained, scores answers of a policy, and learns from the rankings that come of it."""
    pairs = make_pairs(tmp_path)
    train_reward_model(pairs, tmp_path / "reward", max_steps=2)
    record = run(inputs, tmp_path / "run", reward_model=str(tmp_path / "reward"), reward_weights=[1.0, 0.25])
    assert list(record["best_of_n"]["rewards"]) == ["reward", "vowels"]
    for row in lines(tmp_path / "run" / "samples.jsonl"):
        total = [a + 0.25 * b for a, b in zip(*row["rewards"].values(), strict=True)]
        assert row["scores"] == pytest.approx(total)
    again = train_reward_model(
        {**pairs, "datasets": str(tmp_path / "run" / "rankings.jsonl")}, tmp_path / "second", max_steps=1
    )
    assert again["data_report"]["train_rows"] == record["best_of_n"]["files"]["rankings.jsonl"]


def test_help_and_a_wrong_key(capsys):
    with pytest.raises(SystemExit) as stop:
        cli(["best-of-n", "--help"])
    assert stop.value.code == 0
    assert "--num_generations" in capsys.readouterr().out
    assert cli(["best-of-n", "--num_samples", "3"]) == 2
