"""What an evaluation says besides its returns: how often updates harm, what is missing to the best,
what happens within an episode.

`facts` works it out, for evaluation.json; `lines` writes it for the console. What doesn't apply is
left out.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.rl.evaluation.curve import Outcomes
from metarl.rl.evaluation.fixed_speeds import best_speeds, mean_miss
from metarl.rl.evaluation.statistics import (
    made_worse,
    normalised_score,
    stratified_bootstrap_interval,
    summary,
)
from metarl.rl.evaluation.within_episode import Steps, mean_in_tenths, profile
from metarl.rl.types import BatchedEnv, FixedSpeeds

MOST_SPEEDS = 4  # fixed speeds that a velocity task is compared with


def facts(
    learner: Outcomes,
    others: Mapping[str, Outcomes],
    env: BatchedEnv[Any],
    tasks: Any,
    generator: torch.Generator,
    *,
    unit: str,
) -> dict[str, Any]:
    """Entries for evaluation.json.

    `tasks_made_worse`: for each update the share of tasks whose return it lowers.
    `regret`: after each update, what is missing to the oracle on the same task.
    `normalised_score`: after each update, 0 for standing still and 1 for the oracle; without one,
    for holding every target speed from the first step on at no cost.
    `scale`: of that score what each task has that scores 0 (`zero`) and 1 (`one`).
    `fixed_speeds`: the best return of k fixed speeds on these tasks.
    `within_episode`: of trials of a single episode, for each agent that was played.

    Args: others: by name, on the same tasks; of them `oracle` and `stand_still` are a scale.
    """
    found: dict[str, Any] = {}
    num_rows = learner.returns.shape[1]
    if num_rows > 1:
        found["tasks_made_worse"] = made_worse(learner.returns)
    oracle = others["oracle"].returns if "oracle" in others else None
    if oracle is not None and oracle.ndim != 2:  # Expected returns, not played ones
        found["regret"] = [
            {"update": k, **summary(_after(oracle, k) - learner.returns[:, k], generator)}
            for k in range(num_rows)
        ]
    speeds = env.references.fixed_speeds
    if speeds is not None:
        found["fixed_speeds"] = fixed_speed_bounds(speeds, tasks.target_velocity, env.spec.horizon)
        if oracle is None:
            oracle = torch.full((len(learner.returns),), env.spec.horizon * speeds.bonus)
    still = others["stand_still"].returns if "stand_still" in others else None
    if still is not None and oracle is not None:
        ones = [_after(oracle, k) for k in range(num_rows)]
        if all(one.mean() > still.mean() for one in ones):
            found["normalised_score"] = [
                {"update": k, **normalised_score(learner.returns[:, k], still, one, generator)}
                for k, one in enumerate(ones)
            ]
            found["scale"] = {
                end: _by_task(returns).tolist()
                for end, returns in (("zero", still), ("one", ones[-1]))
            }
    if unit == "episode" and num_rows == 1:
        played = {"learner": learner, **others}
        found["within_episode"] = {
            name: _within(outcomes.steps, generator)
            for name, outcomes in played.items()
            if outcomes.steps is not None
        }
    return found


def _after(oracle: Tensor, update: int) -> Tensor:
    """[N, E] what an oracle has after so many updates, of [N] or [N, E], the same after each, or of
    [N, K + 1, E]."""
    if oracle.ndim == 3:
        return oracle[:, update]
    return oracle[:, None] if oracle.ndim == 1 else oracle


def _by_task(returns: Tensor) -> Tensor:
    """[N] from [N] or [N, E]."""
    return returns.double().reshape(len(returns), -1).mean(1)


def fixed_speed_bounds(speeds: FixedSpeeds, targets: Tensor, horizon: int) -> dict[str, Any]:
    """The best mean return on the targets [N] of those who hold one of 1, 2, 3, 4 speeds, whichever
    is nearest: free of all costs, which nobody limited to so many speeds can pass, and with the
    allowance for them."""
    rows = []
    for count in range(1, min(MOST_SPEEDS, len(targets)) + 1):
        chosen = best_speeds(targets, count)
        bound = horizon * (speeds.bonus - mean_miss(targets, chosen))
        rows.append(
            {
                "num_speeds": count,
                "speeds": chosen.tolist(),
                "mean": bound,
                "mean_with_allowance": bound - speeds.allowance,
            }
        )
    return {"allowance": speeds.allowance, "allowance_is": speeds.allowance_is, "bounds": rows}


def _within(steps: Steps, generator: torch.Generator) -> dict[str, Any]:
    """Args: steps: [N, E, T], or [N, 1, E, T] of someone who could have been updated."""
    reward, running = (x.squeeze(1) if x.ndim == 4 else x for x in (steps.reward, steps.running))
    ends, curve = _curve(reward, running, generator)
    found = {"step": ends, "reward": curve}
    for name, values in steps.measured.items():
        found[name] = _curve(values.squeeze(1) if values.ndim == 4 else values, running, generator)[
            1
        ]
    return found


def _curve(
    values: Tensor, running: Tensor, generator: torch.Generator
) -> tuple[list[int], dict[str, Any]]:
    """Means per step over the episode, with 95 % intervals over tasks (and episodes), and those of
    the first and the last tenth."""
    first, last = mean_in_tenths(values, running)
    ends, per_task = profile(values, running)
    rows = []
    for stretch in per_task.unbind(1):
        seen = stretch[stretch.isfinite()]
        if len(seen) == 0:
            break  # nobody came so far
        low, high = stratified_bootstrap_interval(seen, _mean, generator, num_resamples=500)
        rows.append((seen.mean().item(), low, high))
    mean, low_ends, high_ends = (list(column) for column in zip(*rows, strict=True))
    return ends[: len(rows)], {
        "first_tenth": first,
        "last_tenth": last,
        "mean": mean,
        "ci_low": low_ends,
        "ci_high": high_ends,
    }


def _mean(values: Tensor, dim: int) -> Tensor:
    return values.mean(dim)


def lines(report: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Returns the lines that say it on the console. Args: names: how the agents are shown, by their
    names in the report."""
    unit, found = report["unit"], []
    if "tasks_made_worse" in report:
        shares = [
            f"{100 * row['share']:.0f} % by {unit} {row['update'] + (unit == 'episode')}"
            for row in report["tasks_made_worse"]
        ]
        found.append(f"{'tasks made worse':>26}  {', '.join(shares)}")
        if len(shares) > 1:
            below = [
                f"{100 * row['share_below_unadapted']:.0f} %" for row in report["tasks_made_worse"]
            ]
            first = "in episode 1" if unit == "episode" else "unadapted"
            found.append(f"{f'worse than {first}':>26}  {', '.join(below)}")
    if "normalised_score" in report:
        scores = [
            f"{row['mean']:z.2f}"
            + (f" [{row['ci_low']:z.2f}, {row['ci_high']:z.2f}]" if "ci_low" in row else "")
            for row in report["normalised_score"]
        ]
        best = (
            "the oracle"
            if "oracle" in report.get("references", {})
            else "holding the target from the first step on"
        )
        found.append(f"{'0 still, 1 best':>26}  {', '.join(scores)}; best: {best}")
    if "regret" in report:
        regrets = [f"{row['mean']:z.2f}" for row in report["regret"]]
        found.append(f"{'mean regret':>26}  {', '.join(regrets)}")
    found += _speed_lines(report["fixed_speeds"]) if "fixed_speeds" in report else []
    found += _within_lines(report["within_episode"], names) if "within_episode" in report else []
    return found


def _speed_lines(speeds: Mapping[str, Any]) -> list[str]:
    def row(name: str, values: list[str], note: str = "") -> str:
        return f"{name:>26}  {'  '.join(f'{value:>9}' for value in values)}{note}"

    bounds = speeds["bounds"]
    found = [
        row(
            "best fixed speeds",
            [str(bound["num_speeds"]) for bound in bounds],
            "  mean return of k speeds, each task at the nearest",
        ),
        row(
            "at no cost",
            [f"{bound['mean']:z.2f}" for bound in bounds],
            "  a bound: no run-up, no control",
        ),
    ]
    if speeds["allowance"]:
        costly = [f"{bound['mean_with_allowance']:z.2f}" for bound in bounds]
        found.append(
            row(f"at {speeds['allowance']:g} an episode", costly, f"  {speeds['allowance_is']}")
        )
    return found


def _within_lines(within: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    found = [f"{'a step of the episode':>26}  {'first 10th':>10}  {'last 10th':>10}"]
    for agent, curves in within.items():
        # What is measured is the learner's own: the error of an untrained model would only say that
        # it is one.
        for quantity in [
            "reward",
            *(name for name in curves if name not in ("step", "reward") and agent == "learner"),
        ]:
            row, label = curves[quantity], names.get(agent, agent.replace("_", " "))
            label = label if quantity == "reward" else f"{label}, {quantity}"
            found.append(f"{label:>26}  {row['first_tenth']:10.3f}  {row['last_tenth']:10.3f}")
    return found
