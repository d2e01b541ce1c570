"""What is known exactly about searching a square grid for a hidden goal: the oracle's return, and
the best search there is.

The problem is that of envs/small/gridworld.py: an episode starts at x, y = 0, 0 and has H steps;
standing on the goal after a step pays +1, anything else −0.1; the goal is uniform on the cells but
the start and those beside it. Cell number c is (c // size, c % size).
"""

from functools import cache

import torch
from torch import Tensor

from metarl.struct import map_tensors, replace, struct

# (x, y): stay, up, right, down, left
MOVES = torch.tensor([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
FOUND, NOT_FOUND = 1.0, -0.1  # the reward of a step


def neighbours(size: int) -> Tensor:
    """[cells, 5] the cell that each move leads to; walls hold back."""
    place = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    to = (place[:, None] + MOVES).clamp(0, size - 1)
    return to[..., 0] * size + to[..., 1]


def distances(size: int) -> Tensor:
    """Returns the steps [cells] from the start."""
    return torch.cartesian_prod(torch.arange(size), torch.arange(size)).sum(1)


def possible_goals(size: int) -> Tensor:
    """[G] the cells that aren't the start or beside it, diagonally either."""
    place = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    return (place.amax(1) > 1).nonzero().flatten()


def oracle_returns(size: int, horizon: int) -> Tensor:
    """[cells] float64, the return of an episode of those who know that the goal is there: straight
    to it, and stay."""
    return found_at(distances(size), horizon)


def found_at(step: Tensor, horizon: int) -> Tensor:
    """The return of an episode in which the goal is stood on from step 1, ..., H on; if that is
    later than H, never."""
    reward = NOT_FOUND * (step.double() - 1) + FOUND * (horizon - step + 1)
    return torch.where(step <= horizon, reward, NOT_FOUND * horizon)


def bayes_optimal_returns(size: int, horizon: int, num_episodes: int) -> Tensor:
    """[cells, num_episodes] the return of each episode of the best search, if the goal is in that
    cell; exact.

    The mean over the possible goals, summed over episodes, is the Bayes-optimal value. NaN where no
    goal can be.
    """
    route = best_search(size, horizon, num_episodes)
    oracle = oracle_returns(size, horizon)
    found = torch.full((size**2, num_episodes), torch.nan, dtype=torch.float64)
    for goal in possible_goals(size).tolist():
        before = [step for step, cell in enumerate(route) if cell == goal]
        episode, step = divmod(before[0], horizon) if before else (num_episodes, 0)
        found[goal, :episode] = NOT_FOUND * horizon
        found[goal, episode:] = oracle[goal]
        if before:  # Later visits are those after a success, which this route isn't for.
            found[goal, episode] = found_at(torch.tensor(step + 1), horizon)
    return found


@struct
class _Searches:
    """M ways to have searched so far, all of the same length and without success."""

    cell: Tensor  # [M] int64, where they are
    seen: Tensor  # [M] int64, bit c: the possible goal c was stood on
    cost: Tensor  # [M] int64, of the goals seen
    route: Tensor  # [M, steps] uint8, the cells they stood on after each step


@cache
def best_search(size: int, horizon: int, num_episodes: int) -> list[int]:
    """The cells to stand on, step by step through the episodes of a trial, as long as the goal
    isn't found; exact.

    Until it is found nothing is learnt but that it isn't where one was, so the best strategy is a
    fixed route; from then on one does as the oracle. Finding the goal g, d steps from the start, at
    step s of episode e = 0, 1, ... is worse than the oracle by 1.1 (e (H + 1 − d) + s − d), and
    never finding it by as much as e = num_episodes, s = d. The sum over goals of e (H + 1 − d) + s
    is the cost to be made least.

    All routes are followed step by step; of those that stand on the same cell and have seen the
    same goals the cheapest is kept. A route is dropped if a bound from below on its cost is above
    the cost of a route already known, which the same search finds among a thousand routes at a
    time. In the bound each unseen goal takes a step of its own in this episode, no earlier than the
    way there takes, or if that is too late costs one step more than the episode's last; to be found
    later is dearer. So nothing that could be the best is ever dropped.
    """
    if size > 6:
        raise ValueError(
            f"size is {size}; expected at most 6, for the cells seen are kept in 64 bits"
        )
    hasty = _search(size, horizon, num_episodes, width=1000, highest=None)
    return (
        _search(size, horizon, num_episodes, width=None, highest=int(hasty.cost[0]))
        .route[0]
        .tolist()
    )


def _search(
    size: int, horizon: int, num_episodes: int, *, width: int | None, highest: int | None
) -> _Searches:
    """The cheapest route of those that are followed, one row; its cost includes the goals never
    seen.

    Args:
      width: how many routes are followed at a time, those of the lowest bounds; None: all.
      highest: routes whose bound is above this are dropped; None: none.
    """
    zero = torch.zeros(1, dtype=torch.int64)
    searches = _Searches(
        cell=zero, seen=zero, cost=zero, route=torch.zeros(1, 0, dtype=torch.uint8)
    )
    bound = zero
    for step in range(num_episodes * horizon):
        episode, step_in_episode = divmod(step, horizon)
        if step_in_episode == 0:
            searches = replace(searches, cell=torch.zeros_like(searches.cell))
        searches = _cheapest(_followed(searches, size, horizon, episode, step_in_episode + 1))
        bound = searches.cost + _cost_to_come(searches, size, horizon, episode, step_in_episode + 1)
        order = bound.argsort(stable=True)
        if highest is not None:
            order = order[bound[order] <= highest]
        searches, bound = _rows(searches, order[:width]), bound[order[:width]]
        if not bool(_unseen(searches, size)[0].any()):
            break  # Its bound is its cost, and the others' are no lower.
    return replace(_rows(searches, zero), cost=bound[:1])


def _followed(searches: _Searches, size: int, horizon: int, episode: int, step: int) -> _Searches:
    """All routes with one more step, up, right, down or left: to stay would only put off the
    rest."""
    cell = neighbours(size)[searches.cell, 1:].flatten()
    seen, cost = searches.seen.repeat_interleave(4), searches.cost.repeat_interleave(4)
    is_goal = torch.zeros(size**2, dtype=torch.bool)
    is_goal[possible_goals(size)] = True
    new = is_goal[cell] & ((seen >> cell) & 1 == 0)
    return _Searches(
        cell=cell,
        seen=torch.where(new, seen | (torch.ones_like(seen) << cell), seen),
        cost=cost + new * (episode * (horizon + 1 - distances(size)[cell]) + step),
        route=torch.cat(
            [searches.route.repeat_interleave(4, dim=0), cell[:, None].to(torch.uint8)], dim=1
        ),
    )


def _cheapest(searches: _Searches) -> _Searches:
    """Keeps the cheapest of those searches that are on the same cell and have seen the same
    goals."""
    order = searches.cost.argsort(stable=True)
    for key in (searches.cell, searches.seen):
        order = order[key[order].argsort(stable=True)]
    cell, seen = searches.cell[order], searches.seen[order]
    first = torch.ones_like(cell, dtype=torch.bool)
    first[1:] = (cell[1:] != cell[:-1]) | (seen[1:] != seen[:-1])
    return _rows(searches, order[first])


def _cost_to_come(searches: _Searches, size: int, horizon: int, episode: int, step: int) -> Tensor:
    """[M] no more than the cost of the goals unseen; after the trial's last step just that."""
    goals, unseen = possible_goals(size), _unseen(searches, size)
    place = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    way = (place[searches.cell][:, None] - place[goals]).abs().sum(-1)
    earliest = torch.where(unseen, step + way, horizon + 1).sort(dim=1).values
    # One goal a step: the i-th is found no earlier than one step after the one before it.
    i = torch.arange(len(goals))
    found = ((earliest - i).cummax(dim=1).values + i).clamp(max=horizon + 1)
    # Those already seen were sorted among the latest; each counted horizon + 1.
    late = (~unseen).sum(1) * (horizon + 1)
    return found.sum(1) - late + (unseen * episode * (horizon + 1 - distances(size)[goals])).sum(1)


def _unseen(searches: _Searches, size: int) -> Tensor:
    """Tells [M, G] which goals a route hasn't seen yet."""
    return (searches.seen[:, None] >> possible_goals(size)) & 1 == 0


def _rows(searches: _Searches, order: Tensor) -> _Searches:
    return map_tensors(lambda leaf: leaf[order], searches)
