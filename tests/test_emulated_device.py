"""The emulated GPU must raise what CUDA raises, allow what CUDA allows, and compute what the CPU computes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from helpers.emulated_device import emulated_cuda
from helpers.emulated_tensors import EmulatedTensor

SAME_DEVICE = "on the same device"


@pytest.fixture(autouse=True)
def gpu():
    before = (torch.cuda.is_available(), torch.Generator, torch.load, torch.autograd._engine_run_backward)
    with emulated_cuda():
        yield
    after = (torch.cuda.is_available(), torch.Generator, torch.load, torch.autograd._engine_run_backward)
    assert after == before


def on_gpu(*shape: int) -> torch.Tensor:
    return torch.ones(shape, device="cuda")


FORBIDDEN: dict[str, Callable[[], object]] = {
    "add": lambda: on_gpu(3) + torch.ones(3),
    "add in place": lambda: torch.ones(3).add_(on_gpu(3)),
    "sum on the CPU of one on the GPU": lambda: torch.zeros(()).add_(on_gpu(3).sum()),
    "matrix product": lambda: on_gpu(2, 3) @ torch.ones(3, 2),
    "linear": lambda: torch.nn.Linear(3, 2)(on_gpu(2, 3)),
    "weights on the GPU, inputs not": lambda: torch.nn.Linear(3, 2).to("cuda")(torch.ones(2, 3)),
    "embedding": lambda: torch.nn.Embedding(4, 2).to("cuda")(torch.arange(3)),
    "cat": lambda: torch.cat([on_gpu(2), torch.ones(2)]),
    "stack of scalars": lambda: torch.stack([on_gpu(2).sum(), torch.tensor(1.0)]),
    "where": lambda: torch.where(on_gpu(3) > 0, on_gpu(3), torch.zeros(3)),
    "mask": lambda: on_gpu(3).masked_fill(torch.tensor([True, False, True]), 0.0),
    "gather": lambda: on_gpu(2, 3).gather(1, torch.zeros(2, 1, dtype=torch.long)),
    "index_select": lambda: on_gpu(3).index_select(0, torch.arange(2)),
    "scatter": lambda: on_gpu(3).scatter_add(0, torch.arange(2), on_gpu(2)),
    "isin": lambda: torch.isin(on_gpu(3), torch.ones(1)),
    "cross-entropy": lambda: torch.nn.functional.cross_entropy(
        on_gpu(2, 3), torch.zeros(2, dtype=torch.long)
    ),
    "attention": lambda: torch.nn.functional.scaled_dot_product_attention(
        on_gpu(1, 1, 2, 4),
        on_gpu(1, 1, 2, 4),
        on_gpu(1, 1, 2, 4),
        attn_mask=torch.ones(2, 2, dtype=torch.bool),
    ),
    "assigned values": lambda: on_gpu(3).index_put_((torch.tensor([0, 1]),), torch.ones(2)),
}


@pytest.mark.parametrize("operation", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_devices_do_not_mix(operation: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match=SAME_DEVICE):
        operation()


def test_an_index_on_the_gpu_does_not_fit_a_tensor_on_the_cpu() -> None:
    with pytest.raises(RuntimeError, match="indices should be either on cpu"):
        torch.ones(3)[torch.arange(2, device="cuda")]


ALLOWED: dict[str, tuple[Callable[[], torch.Tensor], list[float]]] = {
    "a scalar on the CPU": (lambda: on_gpu(2) * torch.tensor(3.0), [3, 3]),
    "the other way round": (lambda: torch.tensor(3.0) - on_gpu(2), [2, 2]),
    "a mask and a scalar": (lambda: on_gpu(2).masked_fill(on_gpu(2) > 0, torch.tensor(5.0)), [5, 5]),
    "an index on the CPU": (lambda: on_gpu(3)[torch.tensor([0, 1])], [1, 1]),
    "a list as index": (lambda: on_gpu(3)[[0, 1]], [1, 1]),
    "a mask on the CPU": (lambda: on_gpu(3)[torch.tensor([True, False, True])], [1, 1]),
    "a copy": (lambda: on_gpu(2).copy_(torch.tensor([4.0, 5.0])), [4, 5]),
    "assignment to a slice": (lambda: _assigned(), [1, 7, 7]),
    "tensors like it": (lambda: torch.zeros_like(on_gpu(2)) + on_gpu(2).new_full((2,), 2.0), [2, 2]),
    "a tensor of what it is": (
        lambda: torch.as_tensor(on_gpu(2)) + torch.tensor(on_gpu(2).tolist()).cuda(),
        [2, 2],
    ),
    "one-hot": (lambda: torch.nn.functional.one_hot(torch.ones(1, dtype=torch.long).cuda(), 2)[0], [0, 1]),
    "type_as": (lambda: torch.ones(2).type_as(on_gpu(1)) + on_gpu(2), [2, 2]),
    "the default device": (lambda: _under_default_device(), [2, 2]),
}


def _assigned() -> torch.Tensor:
    tensor = on_gpu(3)
    tensor[1:] = torch.full((2,), 7.0)
    return tensor


def _under_default_device() -> torch.Tensor:
    with torch.device("cuda"):
        return torch.ones(2) + on_gpu(2)


@pytest.mark.parametrize(("operation", "expected"), ALLOWED.values(), ids=ALLOWED.keys())
def test_what_cuda_allows_gives_a_tensor_on_the_gpu(
    operation: Callable[[], torch.Tensor], expected: list[float]
) -> None:
    found = operation()
    assert found.device == torch.device("cuda", 0) and found.is_cuda and not found.is_cpu
    assert found.cpu().device == torch.device("cpu")
    assert type(found.cpu()) is torch.Tensor
    assert found.tolist() == expected


def test_numpy_wants_a_tensor_on_the_cpu() -> None:
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        on_gpu(2).numpy()
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        np.asarray(on_gpu(2))
    assert on_gpu(2).cpu().numpy().tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="cannot pin"):
        on_gpu(2).pin_memory()


def test_a_generator_draws_for_its_own_device() -> None:
    cpu, gpu = torch.Generator().manual_seed(3), torch.Generator(device="cuda").manual_seed(3)
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.rand(2, generator=cpu, device="cuda")
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        torch.rand(2, generator=gpu)
    with pytest.raises(RuntimeError, match="for generator"):
        torch.multinomial(on_gpu(4), 2, generator=cpu)
    with pytest.raises(RuntimeError, match="for generator"):
        on_gpu(4).normal_(generator=cpu)
    assert torch.rand(2, generator=gpu, device="cuda").tolist() == torch.rand(2, generator=cpu).tolist()


def test_moving_changes_the_device_alone() -> None:
    tensor = torch.arange(3)
    moved = tensor.to("cuda", torch.float64)
    assert isinstance(moved, EmulatedTensor) and moved.dtype == torch.float64
    assert moved.to("cuda:0") is moved and moved.cuda() is moved
    assert moved.to(torch.float32).is_cuda and moved.to(tensor).device.type == "cpu"
    assert tensor.to(moved).is_cuda and tensor.to(device=moved.device, dtype=torch.int32).is_cuda
    assert torch.empty(2, device=moved.device).is_cuda and not moved.new_zeros(2, device="cpu").is_cuda
    assert moved.data.is_cuda and moved.detach().is_cuda and copy.deepcopy(moved).is_cuda
    assert moved.to("meta").device.type == "meta"


def test_what_is_made_beside_a_tensor_on_the_gpu_is_still_on_the_cpu() -> None:
    def steps(values: torch.Tensor) -> torch.Tensor:
        return values + torch.arange(len(values))

    with pytest.raises(RuntimeError, match=SAME_DEVICE):
        steps(on_gpu(3))


class Doubled(torch.autograd.Function):
    """A backward pass in Python, with one output that is not used."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x, x * x

    @staticmethod
    def backward(ctx, grad, unused):
        (x,) = ctx.saved_tensors
        return 2 * grad + 2 * x * unused


class Careless(Doubled):
    @staticmethod
    def backward(ctx, grad, unused):
        return grad * torch.full((len(grad),), 2.0)


def test_gradients_are_those_of_the_cpu() -> None:
    def gradients(device: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 7))
        model[2].weight = model[0].weight
        model.to(device)
        assert model[2].weight is model[0].weight
        ids = torch.arange(7, device=device)
        logits = model(ids)[ids % 3 > 0]
        table = torch.zeros(3, 7, device=device)
        table[1:] = logits[:2]
        loss = torch.nn.functional.cross_entropy(logits, ids[ids % 3 > 0]) + table.square().sum()
        loss = loss + Doubled.apply(logits)[0].logsumexp(dim=1).sum()
        loss = loss + torch.utils.checkpoint.checkpoint(model[2], logits[:, :4], use_reentrant=False).std()
        loss.backward()
        assert all(p.grad.device.type == device and p.device.type == device for p in model.parameters())
        return [p.grad.cpu() for p in model.parameters()]

    for on_cpu, emulated in zip(gradients("cpu"), gradients("cuda"), strict=True):
        torch.testing.assert_close(emulated, on_cpu)


def test_a_backward_pass_is_watched_as_well() -> None:
    x = on_gpu(3).requires_grad_()
    with pytest.raises(RuntimeError, match=SAME_DEVICE):
        Careless.apply(x)[0].sum().backward()


def test_a_gradient_comes_back_to_the_cpu() -> None:
    x = torch.ones(3, requires_grad=True)
    (x.to("cuda") * 2).sum().backward()
    assert x.grad.device.type == "cpu" and x.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_keeps_the_parameters_of_a_moved_model(fused: bool, tmp_path: Path) -> None:
    def trained(device: str) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        model.to(device)
        for step in range(3):
            model(torch.ones(4, 3, device=device)).square().sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step == 1:
                torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "both.pt")
                weights, state = torch.load(tmp_path / "both.pt", map_location="cpu", weights_only=True)
                model.load_state_dict(weights)
                optimizer.load_state_dict(state)
        assert optimizer.state[model.weight]["exp_avg"].device.type == device
        return model.weight.detach().cpu()

    torch.testing.assert_close(trained("cuda"), trained("cpu"))


def test_files_are_read_to_where_they_are_wanted(tmp_path: Path) -> None:
    torch.save({"weight": [on_gpu(2)]}, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", map_location="cuda", weights_only=True)["weight"][0].is_cuda
    assert not torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True)["weight"][0].is_cuda


def test_libraries_find_the_gpu() -> None:
    assert torch.cuda.is_available() and torch.accelerator.is_available()
    assert torch.accelerator.current_accelerator() == torch.device("cuda")
    assert PartialState().device.type == "cuda"
