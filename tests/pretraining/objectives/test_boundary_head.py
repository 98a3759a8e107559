"""The span-boundary head: shapes, the formula by hand, what it reads, tied embeddings, and training."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.pretraining_tokenizers import indexed, random_rows, wordpiece_tokenizer
from helpers.tiny_models import redraw
from transformers import AlbertConfig, AutoModelForMaskedLM, BertConfig, RobertaConfig

from hf_align.pretraining.collators import SpanMaskingCollator
from hf_align.pretraining.objectives.boundary_head import (
    SpanBoundaryHead,
    install_span_boundary_head,
    load_span_boundary_head,
)
from hf_align.pretraining.objectives.span_boundary import span_boundary_lm

VOCABULARY = len(wordpiece_tokenizer())
_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 80,
}
CONFIGS = {
    "bert": BertConfig(**_SMALL),
    "roberta": RobertaConfig(**_SMALL, pad_token_id=0),
    "albert": AlbertConfig(**_SMALL, embedding_size=8),
}


def _model(family: str, *, seed: int = 0):
    torch.manual_seed(seed)
    model = AutoModelForMaskedLM.from_config(CONFIGS[family]).eval()
    redraw(model, 0.2)
    install_span_boundary_head(model)
    return model


def _batch(lengths: tuple[int, ...] = (40, 22)) -> dict[str, torch.Tensor]:
    tokenizer = wordpiece_tokenizer()
    return SpanMaskingCollator(tokenizer)(indexed(random_rows(tokenizer, list(lengths))))


def test_the_head_computes_the_formula():
    torch.manual_seed(0)
    head = SpanBoundaryHead(6, 4, 11, norm_eps=1e-5)
    left, right, places = torch.randn(3, 6), torch.randn(3, 6), torch.tensor([0, 2, 40])
    embeddings = torch.randn(11, 4)
    with torch.no_grad():
        head.bias.normal_()
        logits = head(left, right, places, embeddings)

    def layer(state: torch.Tensor, linear: torch.nn.Linear) -> torch.Tensor:
        state = linear.weight @ state + linear.bias
        state = state * 0.5 * (1 + torch.erf(state / 2**0.5))
        return (state - state.mean()) / (state.var(unbiased=False) + 1e-5).sqrt()

    for n, place in enumerate([0, 2, 31]):  # beyond the last place, the last
        state = torch.cat([left[n], right[n], head.positions.weight[place]])
        assert state.shape == (2 * 6 + 200,)
        expected = embeddings @ layer(layer(state, head.first), head.second) + head.bias
        torch.testing.assert_close(logits[n], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_loss_is_the_sum_of_both_objectives(family):
    model, batch = _model(family), _batch()
    output = model(**batch)
    hidden = batch["labels"] != -100
    assert len(output.logps) == len(output.boundary_logps) == int(hidden.sum())
    with torch.no_grad():
        plain = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
        masked = torch.nn.functional.cross_entropy(plain.logits[hidden], batch["labels"][hidden])
        states = plain.hidden_states[-1]
        boundary = 0.0
        for row, column in hidden.nonzero().tolist():
            left, right = batch["left_boundary"][row, column], batch["right_boundary"][row, column]
            logits = model.span_boundary(
                states[row, left][None],
                states[row, right][None],
                batch["span_position"][row, column][None],
                model.get_input_embeddings().weight,
            )
            boundary += torch.nn.functional.cross_entropy(logits, batch["labels"][row, column][None])
    expected = masked + boundary / hidden.sum()
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(-output.logps.mean(), masked, atol=1e-5, rtol=1e-5)


def test_the_objective_sums_both_and_counts_tokens():
    model, batch = _model("bert"), _batch()
    output = model(**batch)
    result = span_boundary_lm(model, batch)
    assert result.count == int((batch["labels"] != -100).sum())
    assert result.loss_sum.item() == pytest.approx(output.loss.item() * result.count, rel=1e-5)
    total = result.metrics["mlm_loss"] + result.metrics["boundary_loss"]
    assert total.item() == pytest.approx(result.loss_sum.item(), rel=1e-6)
    # Trainer's way of normalising: by the items of the whole step.
    assert model(**batch, num_items_in_batch=50).loss.item() == pytest.approx(total.item() / 50, rel=1e-5)


def test_the_boundary_head_reads_the_two_boundary_states_only():
    model, batch = _model("bert"), _batch((40,))
    caught: list[torch.Tensor] = []

    def keep(module, inputs, output):
        output.last_hidden_state.retain_grad()
        caught.append(output.last_hidden_state)

    handle = model.bert.register_forward_hook(keep)
    model(**batch).boundary_logps.sum().backward()
    handle.remove()
    read = caught[0].grad[0].abs().sum(dim=-1).nonzero()[:, 0].tolist()
    hidden = batch["labels"][0] != -100
    wanted = {*batch["left_boundary"][0][hidden].tolist(), *batch["right_boundary"][0][hidden].tolist()}
    assert set(read) == wanted


def test_the_decoder_is_tied_to_the_embeddings():
    model, batch = _model("bert"), _batch()
    names = [name for name, _ in model.span_boundary.named_parameters()]
    assert not any("decoder" in name for name in names)
    model(**batch).boundary_logps.sum().backward()
    # Every row of the table gets a gradient through the softmax, ids that are not in the batch included.
    assert (model.get_input_embeddings().weight.grad.abs().sum(dim=-1) > 0).all()


@pytest.mark.parametrize("family", CONFIGS)
def test_without_boundaries_nothing_changes(family):
    torch.manual_seed(0)
    plain = AutoModelForMaskedLM.from_config(CONFIGS[family]).eval()
    model = copy.deepcopy(plain)
    install_span_boundary_head(model)
    batch = {name: _batch()[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).loss, plain(**batch).loss)
        torch.testing.assert_close(model(**batch).logits, plain(**batch).logits)


def test_it_trains_and_saves(tmp_path):
    model, batch = _model("bert"), _batch((60, 60, 60))
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        output = model(**batch)
        losses.append((-output.logps.mean().item(), -output.boundary_logps.mean().item()))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert losses[-1][0] < 0.5 * losses[0][0]
    assert losses[-1][1] < 0.5 * losses[0][1]
    model.eval().save_pretrained(tmp_path)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert not hasattr(plain, "span_boundary")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        torch.testing.assert_close(plain(**inputs).logits, model(**inputs).logits)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    install_span_boundary_head(again)
    assert not torch.equal(again.span_boundary.first.weight, model.span_boundary.first.weight)
    assert load_span_boundary_head(again, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**batch).boundary_logps, model(**batch).boundary_logps)


def test_a_model_without_the_head_gives_none(tmp_path):
    AutoModelForMaskedLM.from_config(CONFIGS["bert"]).save_pretrained(tmp_path)
    model = _model("bert")
    drawn = model.span_boundary.first.weight.clone()
    assert not load_span_boundary_head(model, tmp_path)
    assert torch.equal(model.span_boundary.first.weight, drawn)


def test_a_deep_copy_computes_with_its_own_weights():
    model, batch = _model("bert"), _batch()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = model(**batch).boundary_logps
        for parameter in twin.parameters():
            parameter.mul_(1.5)
        assert not torch.allclose(twin(**batch).boundary_logps, before)
        assert torch.equal(model(**batch).boundary_logps, before)
