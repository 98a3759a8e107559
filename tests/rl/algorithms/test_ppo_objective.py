"""The PPO objective: what it is at ratio 1, and that it does not depend on how a batch is cut or packed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.ppo_parts import answers, models, prompts

from hf_align.modeling.inputs import model_inputs
from hf_align.rl.algorithms.ppo import PpoObjective
from hf_align.rl.episodes import EpisodeRow, answer_tree, collate_episodes, empty_episode

COLUMNS = ("old_logps", "old_values", "advantages", "returns")
LENGTHS = [[3, 1, 5], [4], [2, 2]]
PROMPT_LENGTHS = [7, 4, 9]


def objective(**given: float) -> PpoObjective:
    settings = {"clip_range": 0.2, "clip_range_value": 0.2, "vf_coef": 0.1, "entropy_coef": 0.0}
    return PpoObjective(**{**settings, "temperature": 1.3, **given})


def rows(*, seed: int = 7) -> list[EpisodeRow]:
    """Three prompts with six answers and random metrics; old log-probabilities near -4."""
    generator = np.random.default_rng(seed)
    asked, found = prompts(PROMPT_LENGTHS), answers(LENGTHS)
    made = []
    for number, prompt in asked:
        tree = answer_tree(prompt.ids, [one.tokens for one in found if one.prompt == number])
        count = tree.target_tokens
        metrics = [generator.normal(size=count).astype(np.float32) for _ in range(4)]
        metrics[0], metrics[1] = metrics[0] * 0.2 - 4, metrics[1] * 0.1
        made.append(EpisodeRow(tree, dict(zip(COLUMNS, metrics, strict=True))))
    return made


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys() and ours
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=2e-4, atol=2e-5, msg=name)


def test_trees_hold_every_sequence() -> None:
    for (_, prompt), row in zip(prompts(PROMPT_LENGTHS), rows(), strict=True):
        for k in range(len(row.branches)):
            sequence = row.tree.sequence(k)
            assert tuple(sequence.input_ids[: len(prompt.ids)]) == prompt.ids
            assert sequence.target_mask.tolist() == [i >= len(prompt.ids) for i in range(len(sequence))]
    assert len(rows()[0].prefix) == 6, "all but the last token of a prompt with several answers"
    assert len(rows()[1].prefix) == 0, "one answer is one sequence"
    assert rows()[2].branches[1].input_ids[-1] == 2, "the token that ends an answer is trained"


@pytest.mark.parametrize("layout", ["shared", "packed", "padded", "one by one", "with an empty row"])
def test_losses_and_gradients_do_not_depend_on_the_layout(layout: str) -> None:
    found = models(packed=layout != "padded")
    chosen, shared = rows(), layout not in ("packed", "padded")
    loss = objective(entropy_coef=0.05)
    whole = loss(found.module, collate_episodes(chosen, packed=found.packed, share_prefix=shared))
    whole.loss_sum.backward()
    ours = gradients(found.module)
    totals: dict[str, float] = {}
    reference = models()
    for row in chosen:
        for k, one in enumerate(_alone(row)):
            output = loss(reference.module, collate_episodes([one], packed=True))
            output.loss_sum.backward()
            for name, value in {"loss": output.loss_sum, **output.metrics}.items():
                totals[name] = totals.get(name, 0.0) + value.item()
            assert output.count == row.branches[k].target_tokens
    theirs = gradients(reference.module)
    if layout == "one by one":
        for row in chosen:
            loss(found.module, collate_episodes([row], packed=True)).loss_sum.backward()
        ours = gradients(found.module)
    if layout == "with an empty row":
        output = loss(found.module, collate_episodes([*chosen, empty_episode(COLUMNS)], packed=True))
        output.loss_sum.backward()
        ours = gradients(found.module)
        assert output.count == whole.count
    assert_same(ours, theirs)
    assert whole.loss_sum.item() == pytest.approx(totals["loss"], rel=1e-4)
    for name, value in whole.metrics.items():
        assert value.item() == pytest.approx(totals[name], rel=1e-3, abs=1e-4), name


def _alone(row: EpisodeRow) -> list[EpisodeRow]:
    """Each answer of a row as a row of its own."""
    ends = np.cumsum([branch.target_tokens for branch in row.branches])[:-1]
    metrics = {name: np.split(values, ends) for name, values in row.columns.items()}
    prompt = [*row.prefix, *row.branches[0].input_ids[~row.branches[0].target_mask]]
    return [
        EpisodeRow(
            answer_tree(prompt, [branch.input_ids[branch.target_mask]]),
            {name: parts[k] for name, parts in metrics.items()},
        )
        for k, branch in enumerate(row.branches)
    ]


def test_a_batch_of_empty_rows_alone_adds_nothing() -> None:
    found = models()
    output = objective()(found.module, collate_episodes([empty_episode(COLUMNS)], packed=True))
    output.loss_sum.backward()
    assert output.loss_sum.item() == 0 and output.count == 0
    assert not any(grad.any() for grad in gradients(found.module).values())


def on_policy(found: object, chosen: list[EpisodeRow], loss: PpoObjective) -> list[EpisodeRow]:
    """The rows with the policy's own log-probabilities and values as the old ones."""
    made = []
    for row in chosen:
        batch = collate_episodes([row], packed=True)
        with torch.no_grad():
            output = found.module(**model_inputs(batch.inputs), temperature=loss.temperature)  # type: ignore[attr-defined]
        logps, values = output["logps"].numpy(), output["state_values"].numpy()
        made.append(EpisodeRow(row.tree, {**row.columns, "old_logps": logps, "old_values": values}))
    return made


def test_at_the_start_of_an_update_nothing_is_clipped_and_the_gradient_is_that_of_reinforce() -> None:
    found, loss = models(), objective(vf_coef=0.0)
    chosen = on_policy(found, rows(), loss)
    batch = collate_episodes(chosen, packed=True)
    output = loss(found.module, batch)
    means = {name: value.item() / output.count for name, value in output.metrics.items()}
    assert means["ratio"] == pytest.approx(1, abs=1e-5)
    assert means["ratio_deviation"] == pytest.approx(0, abs=1e-5)
    assert means["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert means["clip_fraction"] == means["value_clip_fraction"] == 0
    assert means["policy_loss"] == pytest.approx(-batch.columns["advantages"].mean().item(), abs=1e-5)
    output.loss_sum.backward()
    ours = gradients(found.module.policy)
    # REINFORCE: the gradient of -sum A log pi(a | s), by the model's own logits, a sequence at a time.
    fresh = models(packed=False).policy
    for row in chosen:
        advantages = np.split(
            row.columns["advantages"], np.cumsum([b.target_tokens for b in row.branches])[:-1]
        )
        for k, weights in enumerate(advantages):
            sequence = row.tree.sequence(k)
            ids = torch.from_numpy(sequence.input_ids).long()[None]
            logps = torch.log_softmax(fresh(input_ids=ids).logits[0, :-1] / loss.temperature, dim=-1)
            targets = torch.from_numpy(sequence.target_mask[1:])
            taken = logps[targets].gather(1, ids[0, 1:][targets][:, None])[:, 0]
            (-(torch.from_numpy(weights) * taken).sum()).backward()
    theirs = gradients(fresh)
    assert_same(ours, theirs)


def test_a_clipped_token_has_no_gradient() -> None:
    found, loss = models(), objective(vf_coef=0.0)
    chosen = on_policy(found, rows(), loss)
    # Ratios of 1 / exp(-1) = 2.7 with advantages above 0: beyond the range, and in the direction of it.
    moved = [
        EpisodeRow(
            row.tree,
            {
                **row.columns,
                "old_logps": row.columns["old_logps"] - 1,
                "advantages": np.abs(row.columns["advantages"]),
            },
        )
        for row in chosen
    ]
    output = loss(found.module, collate_episodes(moved, packed=True))
    output.loss_sum.backward()
    assert not any(grad.any() for grad in gradients(found.module.policy).values())
    assert output.metrics["clip_fraction"].item() == output.count
    # KL(old || new) for a log-ratio of 1: e - 1 - 1.
    assert output.metrics["approx_kl"].item() / output.count == pytest.approx(np.e - 2, rel=1e-4)


def test_weights_multiply_the_policy_loss_alone() -> None:
    found = models()
    plain = rows()
    counts = [row.tree.target_tokens for row in plain]
    generator = np.random.default_rng(8)
    weights = [generator.uniform(0, 3, size=count).astype(np.float32) for count in counts]
    weighted = [
        EpisodeRow(row.tree, {**row.columns, "weights": w}) for row, w in zip(plain, weights, strict=True)
    ]
    with torch.no_grad():
        _, before = objective().of_tokens(found.module, collate_episodes(plain, packed=True))
        losses, after = objective().of_tokens(found.module, collate_episodes(weighted, packed=True))
    expected = before["policy_loss"] * torch.from_numpy(np.concatenate(weights))
    torch.testing.assert_close(after["policy_loss"], expected)
    torch.testing.assert_close(losses, expected + 0.1 * before["value_loss"])
    for name in set(before) - {"policy_loss"}:
        assert torch.equal(after[name], before[name]), name
