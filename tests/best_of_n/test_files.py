"""What is made of answers: the best, rankings and pairs, by hand, and read back by what trains on them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.tiny_best_of_n import TURNS, answered_by, lines
from helpers.tiny_checkpoint import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.best_of_n.answers import write_answers
from hf_align.best_of_n.files import kept, metrics, pair, ranking, shown, write_results
from hf_align.best_of_n.recipe import BestOfNOptions
from hf_align.config import DataConfig
from hf_align.data.prepare import prepare_datasets

OPTIONS = BestOfNOptions(num_generations=4)


def test_what_is_kept():
    answered = answered_by(
        ["a", "b", " b ", "", "c"], [1.0, 3.0, 2.0, 9.0, 5.0], stopped=[True] * 4 + [False]
    )
    assert kept(answered, OPTIONS) == [1]
    assert kept(answered, replace(OPTIONS, keep_best=3)) == [1, 0]  # "b" once, nothing empty
    assert kept(answered, replace(OPTIONS, keep_unfinished=True, keep_best=2)) == [4, 1]
    assert kept(answered, replace(OPTIONS, min_reward=3.5)) == []
    assert kept(answered, replace(OPTIONS, min_reward=3.0)) == [1]


def test_what_is_kept_above_the_mean():
    answered = answered_by(["a", "b", "c", "d"], [1.0, 2.0, 4.0, 5.0])  # 3 on average
    every = replace(OPTIONS, keep_best=4)
    assert kept(answered, every) == [3, 2, 1, 0]
    assert kept(answered, replace(every, keep_above_mean=True)) == [3, 2]
    assert kept(answered, replace(every, train=True)) == [3, 2]
    assert kept(answered, replace(every, train=True, keep_above_mean=False)) == [3, 2, 1, 0]
    tied = answered_by(["a", "b", "c"], [0.1, 0.1, 0.1])
    assert kept(tied, replace(every, train=True)) == []


def test_a_ranking_has_every_answer_once_the_best_first():
    found = ranking(answered_by(["a", "b", "a ", " ", "c"], [1.0, 3.0, 2.0, 9.0, 3.0]))
    assert found is not None
    assert (found.answers, found.scores) == (("b", "c", "a "), (3.0, 3.0, 2.0))


@pytest.mark.parametrize(
    ("answers", "scores"),
    [(["a", "b"], [1.0, 1.0]), (["a", ""], [1.0, 2.0]), (["a", "a "], [1.0, 2.0])],
    ids=["tied", "one is empty", "one answer"],
)
def test_nothing_to_compare(answers, scores):
    answered = answered_by(answers, scores)
    assert ranking(answered) is None
    assert pair(answered, OPTIONS) is None


def test_a_pair_is_the_best_that_may_be_learned_from_and_the_worst():
    answered = answered_by(["a", "b", "c"], [1.0, 3.0, 2.0], stopped=[True, False, True])
    found = pair(answered, OPTIONS)
    assert found is not None
    assert found.answers == ("c", "a")
    only = answered_by(["a", "b"], [1.0, 3.0], stopped=[True, False])
    assert pair(only, OPTIONS) is None  # what stopped is the worst


def test_metrics_by_hand():
    one = answered_by(["a", "b"], [1.0, 3.0], stopped=[True, False], tokens=[2, 4], rewards={"x": [5.0, 7.0]})
    two = answered_by(["a", "a"], [2.0, 2.0], stopped=[True, True], tokens=[1, 1], rewards={"x": [1.0, 9.0]})
    found = metrics([one, two], seed=0)
    assert (found["prompts"], found["samples_per_prompt"]) == (2, 2)
    assert [entry["reward"] for entry in found["curve"]] == pytest.approx([2.0, 2.5])
    assert (found["stopped"], found["tokens"], found["distinct"]) == (0.75, 2.0, 0.75)
    assert found["undecided"] == 0.5
    assert found["rewards"] == {"x": {"mean": 5.5, "best": 4.0}}  # the first of equal scores


def test_shown_prompts_are_spread_over_all():
    answered = [answered_by(["a", "b"], [0.0, 1.0], source=f"d.jsonl:{i}") for i in range(40)]
    entries = shown(answered, [f"prompt {i}" for i in range(40)])
    assert len(entries) == 12
    assert (entries[0]["prompt"], entries[-1]["prompt"]) == ("prompt 0", "prompt 39")
    assert (entries[0]["best"], entries[0]["worst_reward"]) == ("b", 0.0)
    assert len(shown(answered[:3], ["x", "y", "z"])) == 3


ANSWER = st.sampled_from(["12 lamps", "no", "  no", "", " ", "你好", "a\nb", 'say "x"'])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.lists(st.tuples(ANSWER, st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=2, max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_every_row_that_is_written_is_read_back_by_the_stages(tmp_path_factory, drawn, plain):
    folder = tmp_path_factory.mktemp("files")
    answered = [
        answered_by(
            [text for text, _, _ in each],
            [score for _, score, _ in each],
            stopped=[stopped for _, _, stopped in each],
            prompt="Once upon" if plain else TURNS,
        )
        for each in drawn
    ]
    counts = write_results(folder, answered, replace(OPTIONS, keep_best=2))
    tokenizer = tiny_tokenizer()
    for name, comparisons in (("best.jsonl", False), ("rankings.jsonl", True), ("pairs.jsonl", True)):
        rows = lines(folder / name)
        assert len(rows) == counts[name]
        if rows:
            data = DataConfig([str(folder / name)], dataset_cache=False, max_malformed_share=0.0)
            prepared = prepare_datasets(data, tokenizer, seed=0, comparisons=comparisons)
            assert prepared.report.sources[0].kept == len(rows)


def test_the_file_of_all_samples_is_a_ranking_too(tmp_path):
    write_answers(tmp_path / "samples.jsonl", [answered_by(["a", "b", "a"], [1.0, 3.0, 1.0])])
    data = DataConfig([str(tmp_path / "samples.jsonl")], dataset_cache=False)
    prepared = prepare_datasets(data, tiny_tokenizer(), seed=0, comparisons=True)
    assert prepared.report.sources[0].format == "ranking"
    assert prepared.train[0].scores.tolist() == [1.0, 3.0, 1.0]
