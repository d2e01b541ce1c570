"""The outer steps of MAML-TRPO and MAML-PPO on made-up data: ours, and the plain way to compare it
with.

The plain way is what one writes first: task by task, autograd through the inner step, Hessian
products by double backward through the graph of all tasks.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from envs.sim.process import tune_process
from metarl.core import params as P
from metarl.core.linearize import adapt_tasks, linearize_adaptation
from metarl.core.rules import Sgd
from metarl.nn.heads import GaussianPolicy
from metarl.nn.mlp_derivatives import differentiator
from metarl.noise import Noise
from metarl.struct import map_tensors, struct
from metarl.types import Params

NUM_TASKS, NUM_EPISODES, NUM_STEPS = 40, 20, 200
OBS_SIZE, ACTION_SIZE, HIDDEN_SIZES = 17, 6, (64, 64)
INNER_LR, OUTER_LR, CLIP = 0.1, 1e-3, 0.3
CG_ITERATIONS, NUM_EPOCHS = 10, 5
CHUNK = 2

POLICY = GaussianPolicy(
    OBS_SIZE, ACTION_SIZE, HIDDEN_SIZES, generator=torch.Generator().manual_seed(0)
)
RULE = Sgd(INNER_LR)


@struct
class Data:
    obs: Tensor  # [N, B, O]
    action: Tensor  # [N, B, A]
    advantage: Tensor  # [N, B]
    log_prob: Tensor  # [N, B] of the policy that acted
    old: dict[str, Tensor]  # its outputs [N, B, A], [N, 1, A]


def data(params: Params, seed: int) -> Data:
    """A batch as sampled by `params` [N, ...], on observations that are noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = NUM_EPISODES * NUM_STEPS
    obs = torch.randn(NUM_TASKS, rows, OBS_SIZE, generator=generator)
    with torch.no_grad():
        old = POLICY.with_params(params, obs)
        action, log_prob = POLICY.act(old, Noise(generator))
    advantage = torch.randn(NUM_TASKS, rows, generator=generator)
    return Data(obs=obs, action=action, advantage=advantage, log_prob=log_prob, old=old)


def problem() -> tuple[Params, Data, Data]:
    """(θ, support, query): the query is sampled by the policies adapted to the support."""
    tune_process()
    params = P.of(POLICY)
    support = data(P.expand(params, NUM_TASKS), 1)
    adapted = adapt_tasks(differentiator(POLICY, inner_loss), params, (support,), RULE)
    return params, support, data(adapted, 2)


def inner_loss(outputs: dict[str, Tensor], batch: Data) -> Tensor:
    return -(
        torch.exp(POLICY.log_prob(outputs, batch.action) - batch.log_prob) * batch.advantage
    ).mean(-1)


def clipped_loss(outputs: dict[str, Tensor], batch: Data) -> Tensor:
    ratio = torch.exp(POLICY.log_prob(outputs, batch.action) - batch.log_prob)
    return -torch.minimum(
        ratio * batch.advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * batch.advantage
    ).mean(-1)


def kl_to_old(outputs: dict[str, Tensor], batch: Data) -> Tensor:
    return POLICY.kl(batch.old, outputs).mean(-1)


def trpo_plain() -> Callable[[], Any]:
    """Gradient, 10 curvature products and one evaluation of the line search, task by task."""
    params, support, query = problem()
    tasks = [(_task(support, i), _task(query, i)) for i in range(NUM_TASKS)]

    def evaluate(theta: Params, create_graph: bool) -> tuple[Tensor, Tensor]:
        losses, kls = [], []
        for on, judged_on in tasks:
            outputs = P.call(POLICY, _adapted(theta, on, create_graph), judged_on.obs)
            losses.append(inner_loss(outputs, judged_on))
            kls.append(kl_to_old(outputs, judged_on))
        return torch.stack(losses).mean(), torch.stack(kls).mean()

    def step() -> tuple[Params, Params, float]:
        theta = _leaves(params)
        loss, kl = evaluate(theta, True)
        leaves = list(theta.values())
        gradient = torch.autograd.grad(loss, leaves, retain_graph=True)
        kl_gradient = torch.autograd.grad(kl, leaves, create_graph=True)
        v = list(gradient)
        for _ in range(CG_ITERATIONS):
            products = torch.autograd.grad(kl_gradient, leaves, v, retain_graph=True)
            v = [x / max(1e-8, float(_norm(products))) for x in products]
        trial = {
            name: (leaf.detach() - 1e-3 * x).requires_grad_()
            for (name, leaf), x in zip(theta.items(), v, strict=True)
        }
        after, _ = evaluate(trial, False)
        return (
            dict(zip(theta, gradient, strict=True)),
            dict(zip(theta, v, strict=True)),
            float(after.detach()),
        )

    return step


def trpo_ours(chunk: int = CHUNK) -> Callable[[], Any]:
    params, support, query = problem()
    parts = [(_task(support, s), _task(query, s)) for s in _slices(chunk)]
    inner, outer = differentiator(POLICY, inner_loss), differentiator(POLICY, inner_loss)

    def step() -> tuple[Params, Params, float]:
        adaptations, kls, gradient = [], [], P.zeros_like(params)
        for on, judged_on in parts:
            adaptation = linearize_adaptation(inner, params, (on,), RULE)
            point = outer(adaptation.adapted, judged_on)
            gradient = P.add(gradient, adaptation.pullback(point.gradient)[0], 1 / NUM_TASKS)
            adaptations.append(adaptation)
            kls.append(point.of(kl_to_old, judged_on))
        v = gradient
        for _ in range(CG_ITERATIONS):
            total = P.zeros_like(params)
            for adaptation, kl in zip(adaptations, kls, strict=True):
                pulled, _ = adaptation.pullback(kl.gauss_newton_product(adaptation.pushforward(v)))
                total = P.add(total, pulled, 1 / NUM_TASKS)
            v = P.scaled(total, 1 / max(1e-8, float(P.norm(total))))
        trial = P.add(params, v, -1e-3)
        after = 0.0
        for on, judged_on in parts:
            with torch.no_grad():
                outputs = POLICY.with_params(adapt_tasks(inner, trial, (on,), RULE), judged_on.obs)
                after += float(inner_loss(outputs, judged_on).sum()) / NUM_TASKS
                kl_to_old(outputs, judged_on)
        return gradient, v, after

    return step


def ppo_plain() -> Callable[[], Any]:
    """Five Adam steps through the inner step, task by task."""
    params, support, query = problem()
    tasks = [(_task(support, i), _task(query, i)) for i in range(NUM_TASKS)]

    def step() -> Params:
        theta = _leaves(params)
        optimizer = torch.optim.Adam(theta.values(), lr=OUTER_LR)
        for _ in range(NUM_EPOCHS):
            optimizer.zero_grad()
            losses = [
                clipped_loss(P.call(POLICY, _adapted(theta, on, True), judged_on.obs), judged_on)
                for on, judged_on in tasks
            ]
            torch.stack(losses).mean().backward()
            optimizer.step()
        return theta

    return step


def ppo_ours(chunk: int = CHUNK) -> Callable[[], Any]:
    params, support, query = problem()
    parts = [(_task(support, s), _task(query, s)) for s in _slices(chunk)]
    inner, outer = differentiator(POLICY, inner_loss), differentiator(POLICY, clipped_loss)

    def step() -> Params:
        theta = _leaves(params)
        optimizer = torch.optim.Adam(theta.values(), lr=OUTER_LR)
        for _ in range(NUM_EPOCHS):
            gradient = P.zeros_like(params)
            for on, judged_on in parts:
                adaptation = linearize_adaptation(inner, theta, (on,), RULE)
                pulled, _ = adaptation.pullback(outer(adaptation.adapted, judged_on).gradient)
                gradient = P.add(gradient, pulled, 1 / NUM_TASKS)
            for name, leaf in theta.items():
                leaf.grad = gradient[name]
            optimizer.step()
        return theta

    return step


def _adapted(theta: Params, batch: Data, create_graph: bool) -> Params:
    loss = inner_loss(P.call(POLICY, theta, batch.obs), batch)
    gradient = torch.autograd.grad(loss, list(theta.values()), create_graph=create_graph)
    return {
        name: leaf - INNER_LR * g for (name, leaf), g in zip(theta.items(), gradient, strict=True)
    }


def _task(batch: Data, index: int | slice) -> Data:
    return map_tensors(lambda leaf: leaf[index], batch)


def _slices(chunk: int) -> list[slice]:
    return [slice(start, start + chunk) for start in range(0, NUM_TASKS, chunk)]


def _leaves(params: Params) -> Params:
    return {name: leaf.clone().requires_grad_() for name, leaf in params.items()}


def _norm(v: Any) -> Tensor:
    return torch.stack([(x * x).sum() for x in v]).sum().sqrt()
