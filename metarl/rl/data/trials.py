"""Trials: the episodes an agent with a memory plays on one task, joined into one sequence, and what
learners make of them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from metarl.rl.data.replay import Steps, step_leaves
from metarl.rl.returns import gae, of_next_step
from metarl.rl.types import Trajectories
from metarl.struct import map_tensors, struct

T = TypeVar("T")

ALL_DIVERGED = "all worlds diverged at their first step: there is nothing to learn from"


@struct
class Trials:
    """B trials, time first as recurrent networks take them, each from its first step on and padded
    at its end only.

    An episode's first step follows the last one of the episode before without a gap. obs has T + 1
    rows: after a trial's last step comes the true successor of that step, for its value.
    """

    obs: Tensor  # [T + 1, B, O]
    action: Tensor  # [T, B, A] or [T, B]
    reward: Tensor  # [T, B]
    log_prob: Tensor  # [T, B] of the policy that acted
    terminated: Tensor  # [T, B] bool
    truncated: Tensor  # [T, B] bool
    diverged: Tensor  # [T, B] bool
    mask: Tensor  # [T, B] bool, False on padding

    @property
    def learnable(self) -> Tensor:
        """[T, B] bool, see `Trajectories.learnable`."""
        return self.mask & ~self.diverged

    @property
    def last(self) -> Tensor:
        """[T, B] bool: the last step of its trial."""
        return self.mask & ~of_next_step(self.mask.T).T

    @property
    def blows_up_next(self) -> Tensor:
        """[T, B] bool, see `Trajectories.blows_up_next`."""
        return of_next_step(self.diverged.T).T


def join_episodes(episodes: Sequence[Trajectories]) -> Trials:
    """The k-th of `episodes` holds the k-th episode of every trial, [N, E, T_k, ...]; trial n, e
    becomes number n E + e."""
    fields = (
        *("step_obs", "action", "reward", "log_prob"),
        *("terminated", "truncated", "diverged", "mask"),
    )
    joined = _joined({name: [getattr(t, name) for t in episodes] for name in fields})
    if not joined["mask"].all():
        # On padding lies what followed an episode.
        joined["step_obs"].masked_fill_(~joined["mask"].unsqueeze(-1), 0)
    before, last = joined.pop("step_obs"), episodes[-1]
    obs = torch.cat([before, torch.zeros_like(before[:1])])
    length = joined["mask"].sum(0)
    columns = torch.arange(len(length), device=length.device)
    # After its last step, an episode's next row is that step's successor.
    obs[length, columns] = last.obs.flatten(0, 1)[columns, last.mask.sum(-1).flatten()]
    return Trials(obs=obs, **joined)


def trial_steps(episodes: Sequence[Trajectories]) -> Steps:
    """The trials that `join_episodes` makes of these episodes, in the same order, step by step as a
    replay gives them: [B, T, ...]."""
    joined = _joined({**step_leaves(episodes), "mask": [t.mask for t in episodes]})
    padding = ~joined["mask"]
    for name, x in joined.items():
        x = x.masked_fill(padding.reshape(*padding.shape, *[1] * (x.ndim - 2)), 0)
        joined[name] = x.transpose(0, 1)
    return Steps(**joined)


def _joined(leaves: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Leaves [N, E, T_k, ...] of the k-th episodes, `mask` among them -> [T, N E, ...], each trial
    from its first step on and padded at its end only."""
    joined = {
        name: torch.cat(list(parts), dim=2).flatten(0, 1).transpose(0, 1)
        for name, parts in leaves.items()
    }
    mask = joined["mask"]
    if mask.all():
        return joined
    # Stable: real steps keep their order and move before all padding.
    order = (~mask).to(torch.uint8).argsort(dim=0, stable=True)[: int(mask.sum(0).max())]
    return {name: _gather(x, order) for name, x in joined.items()}


def trial_advantages(
    trials: Trials, value: Tensor, *, discount: float, gae_lambda: float
) -> Tensor:
    """Generalised advantages [T, B] over whole trials, 0 on padding and where the physics blew up.

    Inside a trial the end of an episode is a step as any other: what follows it is the first step
    of the next episode, so that exploration in one episode earns credit in the next. After the last
    step of the trial comes nothing if it terminated, and the value of its true successor if the
    time was up. Where the physics blows up, the value stands for what would have come: with negative
    rewards, ending an episode so would else pay.

    Args: value: [T + 1, B] of trials.obs, detached.
    """
    terminated, stops = trials.terminated & trials.last, trials.last | trials.blows_up_next
    found = gae(
        *(x.T for x in (trials.reward, value[:-1], value[1:], terminated, stops)),
        discount=discount,
        gae_lambda=gae_lambda,
    )
    return found.T * trials.learnable


def take_trials(batch: T, columns: Tensor) -> T:
    """The trials with these numbers, of a pytree with leaves [T, B, ...]."""
    return map_tensors(lambda x: x[:, columns], batch)


def _gather(x: Tensor, order: Tensor) -> Tensor:
    """x [T, B, ...] with rows in the order [T', B] of each column."""
    index = order.reshape(*order.shape, *[1] * (x.ndim - 2)).expand(*order.shape, *x.shape[2:])
    return x.gather(0, index)
