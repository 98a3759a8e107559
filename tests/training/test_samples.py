from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_checkpoint import save_tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_align.config import SamplesConfig
from hf_align.training.samples import SampleSet, exact_match, generate_answers
from hf_align.types import Example, Message


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("model")
    save_tiny_checkpoint(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model, AutoTokenizer.from_pretrained(folder)


def example(question: str) -> Example:
    return Example(
        source=question, messages=(Message("user", question), Message("assistant", f"re: {question}"))
    )


EXAMPLES = [example(q) for q in ("Hi", "Please send twelve lamps to Oslo.", "你好", "a b c")]
CONFIG = SamplesConfig(num_samples=3, sample_max_new_tokens=6)


def test_a_batch_of_prompts_is_answered_as_each_alone(parts) -> None:
    together = generate_answers(*parts, EXAMPLES, CONFIG, stop_ids=[2], seed=0)
    alone = [generate_answers(*parts, [one], CONFIG, stop_ids=[2], seed=0)[0] for one in EXAMPLES]
    assert together == alone
    assert len({answer.text for answer in together}) > 1


def test_stopping_is_told_from_being_cut_off(parts) -> None:
    model, tokenizer = parts
    (cut,) = generate_answers(model, tokenizer, EXAMPLES[:1], CONFIG, stop_ids=[2], seed=0)
    first = tokenizer(cut.text, add_special_tokens=False)["input_ids"]
    assert not cut.stopped
    assert first
    (answer,) = generate_answers(
        model, tokenizer, EXAMPLES[:1], CONFIG, stop_ids=list(range(len(tokenizer))), seed=0
    )
    assert (answer.text, answer.stopped) == ("", True)


def test_sampling_leaves_the_random_state_of_training_alone(parts) -> None:
    config = SamplesConfig(sample_max_new_tokens=4, sample_temperature=1.0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = generate_answers(*parts, EXAMPLES, config, stop_ids=[2], seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert first == generate_answers(*parts, EXAMPLES, config, stop_ids=[2], seed=1)
    assert first != generate_answers(*parts, EXAMPLES, config, stop_ids=[2], seed=2)


def test_the_record_keeps_answers_from_before_over_a_resume(parts) -> None:
    examples = [Example(source="t", text="a plain text has no prompt"), *EXAMPLES]
    samples = SampleSet(*parts, examples, CONFIG)
    # Three of the four with a prompt, spread over the list.
    assert [entry["source"] for entry in samples.entries] == [EXAMPLES[i].source for i in (0, 2, 3)]
    samples.generate("before", seed=0, main=True)
    resumed = SampleSet(*parts, examples, CONFIG)
    resumed.restore(samples.record()["generations"])
    resumed.generate("after", seed=0, main=True)
    record = resumed.record()
    for entry in record["generations"]:
        assert entry["before"] == entry["after"]
        assert entry["reference"] == f"re: {entry['source']}"
    assert record["sample_exact_match"] == {"before": 0.0, "after": 0.0}


def test_calls_in_the_references_are_counted(parts) -> None:
    model, tokenizer = parts
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    asked = [
        Example(f"f:{number}", messages=(Message("user", "1?"), Message("assistant", answer)))
        for number, answer in enumerate((call, call, "Hello."))
    ]
    samples = SampleSet(model, tokenizer, asked, CONFIG)
    assert samples.record().sample_calls == {
        **{"rows": 2, "name": {}, "exact": {}, "other_rows": 1, "none": {}},
    }
    for entry, text in zip(samples.entries, (call, call.replace("1", "2"), call), strict=True):
        entry |= {"before": "No.", "after": text}
    calls = samples.record().sample_calls
    assert calls.name == {"before": 0.0, "after": 1.0} and calls.exact == {"before": 0.0, "after": 0.5}
    assert calls.none == {"before": 1.0, "after": 0.0}
    assert "sample_calls" not in SampleSet(model, tokenizer, EXAMPLES, CONFIG).record()


def test_prompts_that_leave_no_room_for_an_answer_are_left_out(parts, caplog) -> None:
    # The tiny model has 256 positions.
    examples = [EXAMPLES[0], example("long " * 200)]
    with caplog.at_level("WARNING"):
        samples = SampleSet(*parts, examples, CONFIG)
    assert [entry["source"] for entry in samples.entries] == [EXAMPLES[0].source]
    assert "1 of 2 sample prompts" in caplog.text


def test_the_templates_end_of_turn_is_a_stop_token_without_held_out_rows(parts) -> None:
    model, tokenizer = parts
    model.generation_config.eos_token_id = 0
    samples = SampleSet(model, tokenizer, [], CONFIG)
    samples.set_stop_tokens()
    assert model.generation_config.eos_token_id == [0, tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_exact_match_by_hand() -> None:
    assert exact_match(["a ", "b", "c", " d"], ["a", "b.", "C", "d\n"]) == 0.5
