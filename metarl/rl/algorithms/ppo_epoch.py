"""An epoch of MAML with PPO outside: its objective and the meta-gradient at the present parameters,
of one learner or of several side by side.

Several learners' networks see their tasks in the same operations, which are many and small. What
adds up over tasks is added up learner by learner, so that each gets the numbers that it has alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core.chunks import ChunkSums, chunked, mean_of, take
from metarl.core.differentiated import Differentiate, OutputLoss
from metarl.core.gradients import Mode
from metarl.core.judged import added, each_pulled_back, judge
from metarl.core.linearize import LinearizedAdaptation, linearize_adaptations
from metarl.nn.heads import Outputs, PolicyModule
from metarl.nn.mlp_derivatives import rounds_tasks_alike
from metarl.rl.adapters.gradient import InnerUpdate
from metarl.rl.algorithms.shared import MetaParams, WithOld, kl_on_steps, outer_gradient
from metarl.rl.data.batches import PolicyBatch
from metarl.struct import join_rows, struct
from metarl.threads import WORKERS, map_in_threads
from metarl.types import Params, Ranks

ROWS_SIDE_BY_SIDE = 10_000
"""Steps that are differentiated together at most on a CPU where several learners are side by side:
twice as many were no faster."""
ROWS_ON_A_GPU = 4_000_000
"""The same on a GPU, for its memory: with layers of 100 units each tensor that a gradient keeps of
so many has 1.6 GB."""


@struct
class Epoch:
    """What one pass over an iteration's data finds, at the parameters before the epoch's step."""

    gradient: Params
    """The gradient of the objective, by the names of `MetaParams.joined`."""
    loss: Tensor
    """The objective [] without the penalty."""
    kl: Tensor
    """The KL [] of the adapted policies, from those that gathered the query to the present ones."""
    inner_kl: Tensor
    """[K] or [1] of each penalised policy, from the one that gathered the support to the present
    one."""
    outputs: Outputs
    """The outputs [N, ...] of the present adapted policies on the query."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the epochs go down, as settings say it: the same for learners side by side."""

    policy: PolicyModule
    inner: InnerUpdate
    mode: Mode
    judged_updates: str
    loss: OutputLoss
    """L_clip of an adapted policy's outputs."""
    differentiate: Differentiate
    """The derivatives of `loss`."""
    kl_to_old: Callable[[Outputs, WithOld], Tensor]
    """The KL [n] of a penalty."""


@struct
class Data:
    """What a learner has gathered in an iteration, N tasks."""

    support: tuple[PolicyBatch, ...]
    """K batches, one for each inner step."""
    query: PolicyBatch
    penalised: tuple[WithOld, ...]
    """Support batches whose policies are held, with the outputs of those that gathered them."""

    @property
    def num_tasks(self) -> int:
        return len(self.query.mask)


@dataclass(frozen=True, kw_only=True)
class AskedEpoch:
    """Asks for the epoch of a learner; a `Question`."""

    objective: Objective
    params: MetaParams
    """The present ones."""
    coefficients: Tensor
    """The weight of each penalty."""
    data: Data
    left: Outputs | None
    """Outputs [N, ...] on the query of the adapted policies that gathered it; None: the present
    ones did."""
    cut: dict[Any, Data]
    """The pieces of the data that were cut in earlier epochs, kept by whoever answers."""
    ranks: Ranks
    alone: bool = False
    """Whether the objective may be another than that of learners with the same settings."""

    def answers(self, asked: Sequence["AskedEpoch"]) -> list[Epoch]:
        """The epochs of learners of the same objective, as many side by side as pays."""
        num = self._num_side_by_side()
        groups = [asked[start : start + num] for start in range(0, len(asked), num)]
        return [epoch for group in groups for epoch in epochs_of(group)]

    def _num_side_by_side(self) -> int:
        if self.alone:
            return 1
        mask = self.data.query.mask
        on_cpu = mask.device.type == "cpu"
        if on_cpu and not rounds_tasks_alike(self.objective.policy, mask.shape[1]):
            return 1
        chunk = min(self.objective.inner.tasks_together(mask), self.data.num_tasks)
        most = ROWS_SIDE_BY_SIDE if on_cpu else ROWS_ON_A_GPU
        return max(1, most // (chunk * mask.shape[1]))


def epochs_of(asked: Sequence[AskedEpoch]) -> list[Epoch]:
    """The epoch of each of S learners, who stand side by side."""
    num_tasks, device = asked[0].data.num_tasks, asked[0].data.query.mask.device
    workers = WORKERS if device.type == "cpu" else 1
    chunk = asked[0].objective.inner.tasks_together(asked[0].data.query.mask)
    shares = _shares(num_tasks, chunk, len(asked), workers)
    work = lambda share: _found(asked[share.learners], share.tasks)
    parts: list[list[ChunkSums]] = [[] for _ in asked]
    for share, found in zip(shares, map_in_threads(work, shares, device), strict=True):
        for own, one in zip(parts[share.learners], found, strict=True):
            own.append(one)
    means = [mean_of(own, num_tasks, one.ranks) for own, one in zip(parts, asked, strict=True)]
    return [Epoch(gradient=mean.gradient, outputs=mean.each, **mean.numbers) for mean in means]


@dataclass(frozen=True)
class _Share:
    """A piece of work for one thread: a chunk of the tasks of some learners."""

    tasks: slice
    learners: slice


def _shares(num_tasks: int, chunk: int, num_learners: int, workers: int) -> list[_Share]:
    """Chunk after chunk, each with all learners; but the last ones, which would keep some threads
    busy while others have nothing left to do, are shared out by learners."""
    chunks = chunked(num_tasks, chunk)
    left_over = len(chunks) % workers
    pieces = min(workers // left_over, num_learners) if left_over else 1
    size = -(-num_learners // pieces)
    first = len(chunks) - left_over
    return [_Share(tasks, slice(0, num_learners)) for tasks in chunks[:first]] + [
        _Share(tasks, slice(start, min(start + size, num_learners)))
        for tasks in chunks[first:]
        for start in range(0, num_learners, size)
    ]


def _found(asked: Sequence[AskedEpoch], tasks: slice) -> list[ChunkSums]:
    """What is found of some of the tasks of each learner."""
    of, num = asked[0].objective, len(asked)
    data = _data(asked, tasks)
    adaptation = linearize_adaptations(
        of.inner.differentiate,
        [own.params.theta for own in asked],
        data.support,
        of.inner.rule,
        [own.params.rule for own in asked],
        of.mode,
    )
    judged = judge(
        adaptation, of.differentiate, of.loss, data.support, data.query, of.judged_updates
    )
    penalties = _penalties(asked, adaptation, data.penalised)
    weights = [own.coefficients / len(penalties.values) for own in asked]
    cotangents = judged.cotangents
    for k in range(1, len(penalties.pulls)):
        own_pulls = zip(penalties.pulls[k], weights, strict=True)
        pull = [P.scaled(own, weight[k]) for own, weight in own_pulls]
        cotangents = added(cotangents, k, P.one_after_the_other(pull))
    found = []
    outputs = P.parts(judged.points[len(data.support)].outputs, num)
    values = judged.value.chunk(num)
    penalty_values = [value.chunk(num) for value in penalties.values]
    for number, (of_theta, of_rates) in enumerate(each_pulled_back(adaptation, cotangents)):
        own, present = asked[number], outputs[number]
        if penalties.pulls:
            of_all = P.sum_tasks(penalties.pulls[0][number])
            of_theta = P.add(of_theta, of_all, weights[number][0])
        old = present if own.left is None else take(own.left, tasks)
        kl = kl_on_steps(of.policy, old, present, own.data.query.weight[tasks])
        numbers = {
            "loss": values[number].sum(),
            "kl": kl.sum(),
            "inner_kl": torch.stack([value[number].sum() for value in penalty_values]),
        }
        gradient = outer_gradient(of_theta, of_rates)
        found.append(ChunkSums(gradient=gradient, numbers=numbers, each=present))
    return found


class _Penalties(NamedTuple):
    """The KLs of S learners on their support, and what each alone asks of the parameters."""

    values: list[Tensor]
    """[S n] of each penalised policy."""
    pulls: list[list[Params]]
    """The gradients [n, ...] of each, learner by learner; none at all where nothing weighs."""


def _penalties(
    asked: Sequence[AskedEpoch], adaptation: LinearizedAdaptation, penalised: Sequence[WithOld]
) -> _Penalties:
    kl, points = asked[0].objective.kl_to_old, adaptation.points
    if not any(own.coefficients.any() for own in asked):
        # Worth watching all the same, but not another backward pass through the network.
        with torch.no_grad():
            values = [kl(points[k].outputs, held) for k, held in enumerate(penalised)]
        return _Penalties(values, [])
    found = [points[k].of(kl, held) for k, held in enumerate(penalised)]
    pulls = [P.parts(one.gradient, len(asked)) for one in found]
    return _Penalties([one.value for one in found], pulls)


def _data(asked: Sequence[AskedEpoch], tasks: slice) -> Data:
    """Some of the tasks of each learner, one learner after the other: cut once in an iteration."""
    cut, key = asked[0].cut, (tasks.start, *(id(own.params) for own in asked))
    if key not in cut:
        each = [take(own.data, tasks) for own in asked]
        cut[key] = each[0] if len(each) == 1 else join_rows(each)
    return cut[key]
