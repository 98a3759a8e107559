"""Questions in the words of MMLU, C-Eval and BIG-bench."""

from __future__ import annotations

from helpers.choice_subjects import BIGBENCH, CEVAL, MMLU, QUESTIONS, SHOTS

from hf_align.evaluation.choices.prompts import comparison, shots_of


def test_prompts_in_the_words_of_the_benchmarks():
    put = comparison(MMLU, QUESTIONS[1], SHOTS[:1])
    assert put.prompt == (
        "The following are multiple choice questions (with answers) about world cities.\n\n"
        "Where do 7 lamps go?\nA. Oslo\nB. Rome\nC. Lima\nD. Cairo\nAnswer: D\n\n"
        "Where do 1 lamps go?\nA. Oslo\nB. Rome\nC. Lima\nD. Cairo\nAnswer:"
    )
    assert put.answers == (" A", " B", " C", " D")
    put = comparison(CEVAL, QUESTIONS[1], ())
    assert put.prompt.startswith("以下是中国关于城市考试的单项选择题，请选出其中的正确答案。\n\nWhere")
    assert put.prompt.endswith("D. Cairo\n答案：") and put.answers == ("A", "B", "C", "D")
    put = comparison(BIGBENCH, BIGBENCH.questions[0], BIGBENCH.questions[1:2])
    assert put.prompt == (
        "Say where.\nQ: Where do 1 lamps go?\n  choice: Oslo\n  choice: 你好\n  choice: the order as "
        "JSON\nA: 你好\n"
        "\nQ: Where do 0 lamps go?\n  choice: a lamp\n  choice: twelve lamps\nA: "
    )
    assert put.answers == ("a lamp", "twelve lamps")
    assert [each.source for each in shots_of(BIGBENCH, 1, 5)] == ["q:0", "q:2"]
