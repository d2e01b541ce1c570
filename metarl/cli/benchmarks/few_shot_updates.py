"""Outer steps of second-order MAML on supervised tasks: our back-ends, and the plain loop over
tasks to compare them with."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.sim.process import tune_process
from metarl.core import params as P
from metarl.core.adapt import Backend, adapt, grad_over_tasks
from metarl.core.linearize import linearize_adaptation
from metarl.core.low_rank import adapt_low_rank
from metarl.core.rules import Sgd
from metarl.nn.conv import Conv4
from metarl.nn.features import PerceptronFeatures, WithHead
from metarl.nn.mlp import MLP
from metarl.nn.mlp_derivatives import differentiator
from metarl.types import Batch, LossFn, Params

INNER_LR = 0.01
SHOTS_SINUSOID, TASKS_SINUSOID = 10, 25

Problem = tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], Batch, Batch, int]
"""Network, loss of (outputs, targets), support and query [N, ...], inner steps."""


def sinusoid(num_steps: int) -> Problem:
    """y = a sin(x − b): 25 tasks of 10 + 10 points, a 40-40 network (Finn et al. 2017, section
    5.1)."""
    generator = torch.Generator().manual_seed(0)
    a = torch.empty(TASKS_SINUSOID, 1, 1).uniform_(0.1, 5.0, generator=generator)
    b = torch.empty(TASKS_SINUSOID, 1, 1).uniform_(0.0, 3.14, generator=generator)
    x = torch.empty(2, TASKS_SINUSOID, SHOTS_SINUSOID, 1).uniform_(-5, 5, generator=generator)
    y = a * torch.sin(x - b)
    return (
        MLP((1, 40, 40, 1), "relu", generator=generator),
        functional.mse_loss,
        (x[0], y[0]),
        (x[1], y[1]),
        num_steps,
    )


def omniglot_mlp(batched: bool) -> Problem:
    """5-way 1-shot, 32 tasks, 15 query pictures a way: 784-256-128-64-64-5 with batch norm (Finn et
    al. 2017, section 5.2).

    `batched`: with the batch norm that several tasks at once need, else torch's own, which is
    faster for one task.
    """
    torch.manual_seed(0)
    sizes = (256, 128, 64, 64)
    if batched:
        network: nn.Module = WithHead(PerceptronFeatures((784,), sizes=sizes, batch_norm=True), 5)
    else:
        layers: list[nn.Module] = []
        for i, o in pairwise((784, *sizes)):
            layers += [nn.Linear(i, o), nn.BatchNorm1d(o, track_running_stats=False), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(64, 5))
    support, query = (_classified(32, shots * 5, (784,)) for shots in (1, 15))
    return network, functional.cross_entropy, support, query, 1


def conv4(ours: bool, strided: bool, ways: int, num_tasks: int, num_steps: int) -> Problem:
    """28 × 28 pictures through four blocks of 64 filters, 1 shot, 15 query pictures a way; pooled
    or with stride 2.

    `ours`: `metarl.nn.conv`, else torch's own layers one after the other. Parameters have the same
    names and numbers."""
    torch.manual_seed(0)
    embed = Conv4((1, 28, 28), filters=64, strided=strided)
    network = WithHead(embed, ways)
    if not ours:
        theirs = WithHead(_TorchConv4(strided, embed.num_features), ways)
        theirs.load_state_dict(network.state_dict())
        network = theirs
    support, query = (_classified(num_tasks, shots * ways, (1, 28, 28), ways) for shots in (1, 15))
    return network, functional.cross_entropy, support, query, num_steps


class _TorchConv4(nn.Module):
    """What `Conv4` computes, by torch's own layers, its parameters under the same names."""

    def __init__(self, strided: bool, num_features: int) -> None:
        super().__init__()
        self.strided = strided
        self.num_features = num_features
        stride = 2 if strided else 1
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, 64, 3, stride=stride, padding=1) for i in (1, 64, 64, 64)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(64, track_running_stats=False) for _ in range(4))

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = functional.relu(norm(convolution(x)))
            x = x if self.strided else functional.max_pool2d(x, 2)
        return x.flatten(1)


def plain(make: Callable[..., Problem], *args: Any) -> Callable[[], Any]:
    """What one writes first: a loop over tasks, autograd through the inner steps, one backward at
    the end."""
    tune_process()
    network, loss, support, query, num_steps = make(*args)
    params = P.of(network)

    def step() -> Params:
        theta = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
        num_tasks = support[0].shape[0]
        for i in range(num_tasks):
            phi = theta
            for _ in range(num_steps):
                value = loss(P.call(network, phi, support[0][i]), support[1][i])
                grads = torch.autograd.grad(value, list(phi.values()), create_graph=True)
                phi = {
                    name: leaf - INNER_LR * g
                    for (name, leaf), g in zip(phi.items(), grads, strict=True)
                }
            (loss(P.call(network, phi, query[0][i]), query[1][i]) / num_tasks).backward()
        return {name: leaf.grad for name, leaf in theta.items() if leaf.grad is not None}

    return step


def _of_one(network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> LossFn:
    """Returns the loss of one task's batch as a function of parameters."""

    def of_one(phi: Params, batch: Batch) -> Tensor:
        return loss(P.call(network, phi, batch[0]), batch[1])

    return of_one


def over_tasks(
    backend: Backend, compiled: bool, make: Callable[..., Problem], *args: Any
) -> Callable[[], Any]:
    """`grad_over_tasks` on one of its back-ends."""
    tune_process()
    network, loss, support, query, num_steps = make(*args)
    params, rule = P.of(network), Sgd(INNER_LR)
    of_one = _of_one(network, loss)

    def task(theta: Params, support: Batch, query: Batch) -> Tensor:
        return of_one(adapt(of_one, theta, (support,) * num_steps, rule), query)

    def step() -> Params:
        return grad_over_tasks(task, params, support, query, backend=backend)[1]

    return torch.compile(step) if compiled else step


def low_rank(make: Callable[..., Problem], *args: Any) -> Callable[[], Any]:
    """Linear layers adapted without forming the adapted weights, and one gradient through all
    tasks."""
    tune_process()
    network, loss, support, query, num_steps = make(*args)
    params, rule = P.of(network), Sgd(INNER_LR)
    of_one = _of_one(network, loss)

    def task(theta: Params, support: Batch, query: Batch) -> Tensor:
        adapted = adapt_low_rank(network, of_one, theta, (support,) * num_steps, rule)
        with adapted.installed(network):
            return of_one(adapted.params, query)

    return lambda: grad_over_tasks(task, params, support, query, backend="joint")[1]


def written_out(make: Callable[..., Problem], *args: Any) -> Callable[[], Any]:
    """`linearize_adaptation` with an MLP's written-out derivatives, all tasks at once."""
    tune_process()
    network, _, support, query, num_steps = make(*args)
    params, rule = P.of(network), Sgd(INNER_LR)
    loss = lambda outputs, batch: (outputs["output"] - batch[1]).square().mean((1, 2))
    differentiate = differentiator(network, loss, lambda batch: batch[0])

    def step() -> Params:
        adaptation = linearize_adaptation(differentiate, params, (support,) * num_steps, rule)
        gradient, _ = adaptation.pullback(differentiate(adaptation.adapted, query).gradient)
        return P.scaled(gradient, 1 / query[0].shape[0])

    return step


def _classified(num_tasks: int, num_pictures: int, shape: tuple[int, ...], ways: int = 5) -> Batch:
    """Noise pictures [N, B, ...] and labels [N, B] that come round."""
    generator = torch.Generator().manual_seed(num_pictures)
    pictures = torch.randn(num_tasks, num_pictures, *shape, generator=generator)
    return pictures, torch.arange(num_pictures).remainder(ways).expand(num_tasks, -1).contiguous()
