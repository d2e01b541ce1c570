"""What estimators of the meta-gradient are worth: from sampled episodes, beside the exact one of an
MDP that is enumerated.

K updates φ ← φ + α ĝ(φ) lead from θ to φ_K. There are two objectives with a meta-gradient each, and
the estimators that are unbiased differ:

  sampled   J(θ) = E[V(φ_K)] where each ĝ comes from one sampled episode, as in a learner. θ also
            decides what is sampled.
  expected  J(θ) = V(φ_K) where ĝ = ∇V, the limit of many episodes. The estimators' part is the
            Jacobian of the updates, from one episode each at the exact φ_k, and the gradient at φ_K
            from another.

Policy parameters are logits [S, A], losses those of `metarl.rl.losses`, advantages returns to go
without a baseline.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from metarl.core.adapt import adapt
from metarl.core.gradients import Mode
from metarl.core.linalg import hvp
from metarl.core.rules import Sgd
from metarl.rl.enumerated import EnumeratedMDP, expected_return, log_probs, probabilities
from metarl.rl.losses import dice, e_maml, lvc, reinforce
from metarl.struct import struct
from metarl.types import Params

Objective = Literal["sampled", "expected"]
ESTIMATORS: dict[Objective, tuple[str, ...]] = {
    "sampled": ("first_order", "reinforce", "lvc", "dice", "e_maml"),
    # E-MAML's term credits sampling with what it leads to: nothing, where updates don't follow from
    # it.
    "expected": ("first_order", "reinforce", "lvc", "dice"),
}

_CHUNK = 4096  # estimates at a time, which bounds the memory


@struct
class Measured:
    """Compares N estimates with the exact meta-gradient g; all numbers are shares of ‖g‖."""

    bias: float  # ‖mean − g‖
    bias_error: float  # what that is on average, by chance alone, where there is no bias
    farthest: float  # of the mean from g in any coordinate, in standard errors
    deviation: float  # of a single estimate, over all coordinates
    cosine: float  # of the mean with g
    single_cosine: float  # of a single estimate with g, on average


def exact_meta_gradient(
    mdp: EnumeratedMDP, logits: Tensor, objective: Objective, *, inner_lr: float, num_updates: int
) -> Tensor:
    """∇J [S, A] by summing over all trajectories."""

    def sampled(params: Tensor, updates: int) -> Tensor:
        if updates == 0:
            return expected_return(mdp, params)
        every = torch.arange(len(mdp.chance))
        later = torch.func.vmap(
            lambda episode: sampled(_updated(mdp, params, episode, inner_lr), updates - 1)
        )(every)
        return (probabilities(mdp, params) * later).sum()

    def expected(params: Tensor, updates: int) -> Tensor:
        for _ in range(updates):
            params = params + inner_lr * torch.func.grad(lambda p: expected_return(mdp, p))(params)
        return expected_return(mdp, params)

    objectives: dict[str, Callable[[Tensor, int], Tensor]] = {
        "sampled": sampled,
        "expected": expected,
    }
    found: Tensor = torch.func.grad(objectives[objective])(logits, num_updates)
    return found


def estimates(
    name: str,
    mdp: EnumeratedMDP,
    logits: Tensor,
    objective: Objective,
    *,
    inner_lr: float,
    num_updates: int,
    num_estimates: int,
    generator: torch.Generator,
) -> Tensor:
    """Independent estimates [N, S, A] of ∇J, each from an episode for every update and one after
    the last."""
    path = logits.expand(num_estimates, *logits.shape)
    points, episodes = [path], []
    for update in range(num_updates + 1):
        weights = torch.func.vmap(lambda params: probabilities(mdp, params))(path)
        episodes.append(torch.multinomial(weights, 1, generator=generator)[:, 0])
        if update < num_updates:
            if objective == "sampled":
                path = torch.func.vmap(lambda p, episode: _updated(mdp, p, episode, inner_lr))(
                    path, episodes[-1]
                )
            else:
                path = path + inner_lr * torch.func.vmap(
                    torch.func.grad(lambda p: expected_return(mdp, p))
                )(path)
            points.append(path)
    sampled = torch.stack(episodes, dim=1)
    if objective == "sampled":
        through = lambda of: _through_updates(name, mdp, logits, of, inner_lr)
        return torch.func.vmap(through, chunk_size=_CHUNK)(sampled)
    at = torch.stack(points, dim=1)
    at_points = lambda points, of: _at_exact_points(name, mdp, points, of, inner_lr)
    return torch.func.vmap(at_points, chunk_size=_CHUNK)(at, sampled)


def measure(found: Tensor, exact: Tensor) -> Measured:
    """Args: found: [N, S, A] estimates; exact: [S, A]."""
    rows, g = found.flatten(1), exact.flatten()
    scale, mean, variance = g.norm(), rows.mean(0), rows.var(0)
    error = (variance / len(rows)).sqrt()
    cosines = torch.nn.functional.cosine_similarity(rows, g.expand_as(rows), dim=1)
    return Measured(
        bias=((mean - g).norm() / scale).item(),
        bias_error=(error.norm() / scale).item(),
        # Of what no estimate ever varies in, nothing is far.
        farthest=((mean - g).abs() / error).nan_to_num(nan=0.0, posinf=float("inf")).max().item(),
        deviation=(variance.sum().sqrt() / scale).item(),
        cosine=torch.nn.functional.cosine_similarity(mean, g, dim=0).item(),
        single_cosine=cosines.mean().item(),
    )


def errors_of_means(found: Tensor, exact: Tensor, sizes: list[int]) -> list[float]:
    """Returns for each n of `sizes` the root mean square of ‖mean of n estimates − g‖ / ‖g‖, over N
    // n disjoint groups."""
    rows, g = found.flatten(1), exact.flatten()
    result = []
    for n in sizes:
        means = rows[: len(rows) // n * n].reshape(-1, n, len(g)).mean(1)
        result.append(((means - g).square().sum(1).mean().sqrt() / g.norm()).item())
    return result


def _through_updates(
    name: str, mdp: EnumeratedMDP, logits: Tensor, episodes: Tensor, inner_lr: float
) -> Tensor:
    """One estimate of the objective `sampled` [S, A], from episodes [K + 1]: through the learner's
    own inner loop."""
    *support, query = episodes.unbind()
    loss = _loss(mdp, "reinforce" if name in ("first_order", "e_maml") else name)
    mode: Mode = "first_order" if name == "first_order" else "through"
    # A baseline without which the term's variance hides all else; any constant leaves the mean as
    # it is.
    later = _row(mdp.returns, query) - expected_return(mdp, logits)

    def outer(params: Params) -> Tensor:
        total = loss(adapt(loss, params, tuple(support), Sgd(inner_lr), mode=mode), query)
        if name == "e_maml":
            for k, episode in enumerate(support):
                sampling = adapt(loss, params, tuple(support[:k]), Sgd(inner_lr))
                log_prob = _row(log_probs(mdp, sampling["logits"]), episode)
                total = total + e_maml(log_prob, later, torch.ones_like(log_prob, dtype=torch.bool))
        return total

    return -torch.func.grad(outer)({"logits": logits})["logits"]


def _at_exact_points(
    name: str, mdp: EnumeratedMDP, points: Tensor, episodes: Tensor, inner_lr: float
) -> Tensor:
    """One estimate of the objective `expected` [S, A]: v ← (I − α ∇²ℓ) v from the last update back
    to the first, at φ_k [K + 1, S, A]."""
    *support, query = episodes.unbind()
    *before, last = points.unbind()
    v = torch.func.grad(_loss(mdp, "reinforce"))({"logits": last}, query)
    if name != "first_order":
        for point, episode in zip(reversed(before), reversed(support), strict=True):
            product = hvp(_loss(mdp, name), {"logits": point}, episode, v)
            v = {"logits": v["logits"] - inner_lr * product["logits"]}
    return -v["logits"]


def _loss(mdp: EnumeratedMDP, name: str) -> Callable[[Params, Tensor], Tensor]:
    """The loss of one episode, the number of its trajectory. The losses are means over steps; T
    times them have −V's gradient."""
    horizon = mdp.reward.shape[1]

    def loss(params: Params, episode: Tensor) -> Tensor:
        log_prob, advantage = (
            _row(log_probs(mdp, params["logits"]), episode),
            _row(mdp.returns_to_go, episode),
        )
        mask = torch.ones_like(log_prob, dtype=torch.bool)
        if name == "reinforce":
            return horizon * reinforce(log_prob, advantage, mask)
        if name == "lvc":
            return horizon * lvc(log_prob, log_prob.detach(), advantage, mask)
        return horizon * dice(log_prob[None], advantage[None], mask[None])

    return loss


def _row(x: Tensor, number: Tensor) -> Tensor:
    """x[number], of a number that vmap may hold several of."""
    return x.index_select(0, number.reshape(1))[0]


def _updated(mdp: EnumeratedMDP, logits: Tensor, episode: Tensor, inner_lr: float) -> Tensor:
    """φ + α ĝ(φ), from one episode."""
    return adapt(_loss(mdp, "reinforce"), {"logits": logits}, (episode,), Sgd(inner_lr))["logits"]
