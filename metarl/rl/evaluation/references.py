"""What a learner's returns are set beside: standing still, a scripted controller, exact optima,
agents that learn by calculation.

All of them come from the environment; a learner between standing still and the oracle has a scale.
"""

from collections.abc import Callable
from typing import Any

import torch

from metarl.noise import Noise
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import Outcomes, adaptation_curve, controller_outcomes
from metarl.rl.types import BatchedEnv
from metarl.struct import replace


def stand_still_outcomes(
    env: BatchedEnv, tasks: Any, noise: Noise, *, num_tasks: int
) -> Outcomes | None:
    """Returns the outcomes [N, E] of doing nothing; None where there is no such thing."""
    still = env.references.stand_still
    if still is None:
        return None
    return controller_outcomes(env, tasks, still, noise, num_tasks=num_tasks)


def reference_outcomes(
    env: BatchedEnv,
    tasks: Any,
    streams: Streams,
    *,
    num_tasks: int,
    num_updates: int,
    on_scripted: Callable[[], None] = lambda: None,
) -> dict[str, Outcomes]:
    """Returns the outcomes of all references by name: [N] or [N, E] where they are the same after
    every update, else [N, K + 1, E] after 0, 1, ..., K updates.

    Known returns are expectations, E = 1; the scripted controller and the reference learners are
    played. For those that learn an update is one more episode of experience, whatever it is for the
    learner beside them.

    Args:
      env: num_tasks * E worlds; tasks: leaves [num_tasks, ...].
      streams: draws from `reset` only.
      on_scripted: called after the scripted controller's episodes, for a progress bar.
    Raises: ValueError for a known return that is neither [N] nor [N, K + 1].
    """
    num_episodes = num_updates + 1
    found: dict[str, Outcomes] = {}
    for name, value in env.references.known_returns(tasks, num_episodes).items():
        if value.shape not in ((num_tasks,), (num_tasks, num_episodes)):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; expected ({num_tasks},) or ({num_tasks}, "
                f"{num_episodes})"
            )
        found[name] = Outcomes(returns=value.cpu() if value.ndim == 1 else value.cpu()[:, :, None])
    scripted = env.references.scripted
    if scripted is not None:
        found["scripted"] = controller_outcomes(
            env, tasks, scripted, streams.reset, num_tasks=num_tasks
        )
        on_scripted()
    # On the CPU, wherever the learner is: what they calculate is small.
    seed = int(torch.randint(2**62, (1,), generator=streams.reset.alone))
    own = replace(streams, policy=Noise(torch.Generator().manual_seed(seed)))
    for name, adapter in env.references.learners(num_episodes).items():
        curve = adaptation_curve(
            adapter, env, tasks, own, num_tasks=num_tasks, num_updates=num_updates
        )
        found[name] = curve.outcomes
    return found
