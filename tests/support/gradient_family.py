"""Gradient learners as configs/algo makes them, small and in float64, random data for them, and
their objectives written line by line for autograd."""

import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from metarl.cli import build, configs
from metarl.core import params as P
from metarl.noise import Noise
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.algorithms.shared import Setting, WithOld, split
from metarl.rl.data.batches import PolicyBatch, normalise
from metarl.run.seeding import Generators
from metarl.struct import struct

N, E, T = 3, 4, 3
POINT = ("env=point_navigation_2d", f"env.horizon={T}")
SIZES = (f"algo.meta_batch_size={N}", f"algo.episodes_per_task={E}", "model.hidden_sizes=[5,4]")
SIZES += ("model.action_unit=null",)
CPU = torch.device("cpu")


def learner_of(name, *words, env=POINT, dtype=torch.float64):
    """The learner of configs/algo/<name>.yaml."""
    composed, _ = configs.composed(
        "train", [*env, f"algo={name}", *SIZES, *words], [configs.CONFIGS]
    )
    config, generators = OmegaConf.create(composed), Generators(0)
    world = build.training_environment(config)
    model = build.maker(config.model)(
        observation_space=world.observation_space,
        action_space=world.action_space,
        generator=generators("init"),
    )
    streams = build.streams(generators, CPU)
    setting = Setting(env=world, model=model.to(dtype), streams=streams, device=CPU)
    return build.algorithm(config)(setting=setting)


def random_batch(policy, params, generator) -> PolicyBatch:
    """Actions of the policy under `params` [N, ...], with advantages that have nothing to do with
    them. Of one task the last steps of an episode are missing."""
    obs = torch.randn(N, E * T, 2, generator=generator, dtype=torch.float64)
    if policy.noise_size:
        noise = torch.randn(N, E, 1, policy.noise_size, generator=generator, dtype=torch.float64)
        obs = torch.cat([obs, noise.expand(-1, -1, T, -1).flatten(1, 2)], dim=-1)
    outputs = policy.with_params(params, obs)
    action, log_prob = policy.act(outputs, Noise(generator))
    mask = torch.ones(N, E * T, dtype=torch.bool)
    mask[1, -2:] = False
    advantage = torch.randn(N, E * T, generator=generator, dtype=torch.float64)
    return PolicyBatch(
        obs=obs,
        action=action,
        log_prob=log_prob,
        advantage=normalise(advantage, mask),
        mask=mask,
        weight=mask,
    )


@struct
class Data:
    """K support batches and a query by a policy a little elsewhere, so that no ratio is exactly
    1."""

    support: tuple[PolicyBatch, ...]
    query: PolicyBatch
    old: tuple[dict[str, Tensor], ...]  # outputs of that policy on the support
    worth: Tensor  # [K, N] of the support's sampling


def random_data(learner) -> Data:
    generator, policy = torch.Generator().manual_seed(5), learner._policy
    shifted = {
        name: leaf + 0.05 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        for name, leaf in learner.params.theta.items()
    }
    stacked = P.expand(shifted, N)
    num_steps = learner.source.sizes.num_updates
    *support, query = (random_batch(policy, stacked, generator) for _ in range(num_steps + 1))
    return Data(
        support=tuple(support),
        query=query,
        old=tuple(policy.with_params(stacked, batch.obs) for batch in support),
        worth=torch.randn(num_steps, N, generator=generator, dtype=torch.float64),
    )


def meta_gradient(name, learner, data):
    if isinstance(learner, MamlPPO):
        held = [
            WithOld(batch=batch, old=old) for batch, old in zip(data.support, data.old, strict=True)
        ]
        penalised = tuple(held[: learner.num_penalised])
        return learner.meta_gradient(data.support, data.query, penalised).gradient
    worth = list(data.worth) if name == "e_maml" else None
    return learner.meta_gradient(learner.linearize(data.support, data.query, worth))


NUMBERS = {
    "promp": ("algo.inner_kl_coefficient=0.7",),
    "e_maml": ("algo.exploration_coefficient=0.6",),
    "maesn": ("algo.prior_coefficient=0.3", "model.activation=tanh"),
    "cavia": ("model.activation=tanh",),
}
"""What a learner's file has otherwise. Finite differences don't see a relu's corners."""


def straight_objective(name, learner, data):
    """The learner's outer objective, (θ and rates by the names of `MetaParams.joined`) -> []: task
    by task and line by line, for autograd."""
    start = {key: leaf.clone().requires_grad_() for key, leaf in learner.params.theta.items()}
    num_steps, constant, sampled = len(data.support), {}, {}

    def steps(params, rates, task, descended):
        """φ₀, ..., φ_K of a task; descended(φₖ, k) is the gradient of step k."""
        path = [params]
        for k in range(num_steps):
            found = descended(path[k], k)
            path.append(
                {
                    key: leaf - rates.get(key, RATES.get(name, 0.1)) * found[key]
                    if moves(name, key)
                    else leaf
                    for key, leaf in path[k].items()
                }
            )
        return path

    def by_autograd(task):
        def descended(params, k):
            batch = data.support[k]
            loss = inner_loss(name, params, batch, task, sampled.get((task, k)))
            found = torch.autograd.grad(
                loss, list(params.values()), create_graph=True, materialize_grads=True
            )
            return dict(zip(params, found, strict=True))

        return descended

    for task in range(N):
        path = steps(start, {}, task, by_autograd(task))
        # FOMAML: what each step subtracts counts as a constant.
        found = [by_autograd(task)(path[k], k) for k in range(num_steps)]
        constant[task] = [{key: leaf.detach() for key, leaf in one.items()} for one in found]
        # DiCE: probabilities are relative to those of the policy that sampled, the one of now.
        for k, batch in enumerate(data.support):
            sampled[task, k] = log_prob(path[k], batch, task).detach()

    def objective(joined):
        theta, rates = split(joined)
        total = 0
        for task in range(N):
            descended = by_autograd(task)
            if name == "fomaml":
                descended = lambda params, k, task=task: constant[task][k]
            path = steps(theta, rates, task, descended)
            for k, batch in enumerate(data.support):
                if name == "promp":  # every policy on the way is held
                    total = total + 0.7 / num_steps * kl_to(data.old[k], path[k], batch, task)
                if name == "e_maml":  # every policy on the way has sampled
                    sampled = log_prob(path[k], batch, task)[batch.mask[task]].mean()
                    total = total - 0.6 * data.worth[k, task] * sampled
            if name == "maesn":  # half of Σ μ² + σ² − 1 − 2 log σ
                mean, log_std = theta["noise_mean"], theta["noise_log_std"]
                total = total + 0.15 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum()
            total = total - gain(name, path[-1], data.query, task)
        return total / N

    return objective


RATES = {"cavia": 1.0}


def moves(name, key):
    """Whether an inner step changes the parameter of this name."""
    if name == "anil":
        return key.startswith("trunk.layers.2.")
    return key == "context" if name == "cavia" else True


def inner_loss(name, params, batch, task, sampled=None):
    new, advantage, keep = log_prob(params, batch, task), batch.advantage[task], batch.mask[task]
    if name == "promp":
        return -((new - batch.log_prob[task]).exp() * advantage)[keep].mean()
    if name != "dice_maml":
        return -(new * advantage)[keep].mean()
    total, sampled = 0, new.detach() if sampled is None else sampled
    for episode in range(E):
        log_box, box_before = 0, torch.ones(())
        for step in range(episode * T, (episode + 1) * T):
            if keep[step]:
                log_box = log_box + new[step] - sampled[step]
                total = total - (log_box.exp() - box_before) * advantage[step]
                box_before = log_box.exp()
    return total / keep.sum()


def gain(name, params, query, task):
    """What the outer update raises: plain ratios, or clipped ones."""
    ratio = (log_prob(params, query, task) - query.log_prob[task]).exp()
    found = ratio * query.advantage[task]
    if name in ("promp", "dice_maml"):
        found = torch.minimum(found, ratio.clamp(0.7, 1.3) * query.advantage[task])
    return found[query.mask[task]].mean()


def network(params, obs):
    """Mean and deviation of the actions: tanh, tanh, linear."""
    x = obs
    if "context" in params:
        x = torch.cat([obs, params["context"].expand(len(obs), -1)], dim=-1)
    if "noise_mean" in params:
        z = params["noise_mean"] + params["noise_log_std"].exp() * obs[:, 2:]
        x = torch.cat([obs[:, :2], z], dim=-1)
    for layer in range(3):
        weight, bias = (params[f"trunk.layers.{layer}.{part}"] for part in ("weight", "bias"))
        x = functional.linear(x, weight, bias)
        x = x.tanh() if layer < 2 else x
    return x, params["log_std"].exp()


def log_prob(params, batch, task):
    return Normal(*network(params, batch.obs[task])).log_prob(batch.action[task]).sum(-1)


def kl_to(old, params, batch, task):
    before = Normal(old["mean"][task], old["log_std"][task].exp())
    found = kl_divergence(before, Normal(*network(params, batch.obs[task]))).sum(-1)
    return found[batch.mask[task]].mean()
