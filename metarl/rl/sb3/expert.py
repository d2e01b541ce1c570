"""What an algorithm of Stable-Baselines3 is to our learners and adapters.

All that one of its models has learned lies in a dict of tensors: weights, moments of the
optimizers, running statistics. So it can be stacked over tasks, saved and compared as any other
parameters, and no model is ever pickled.
"""

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.errors import NothingLearnable
from metarl.nn.heads import Outputs
from metarl.noise import Noise
from metarl.rl.data.replay import Steps
from metarl.rl.sb3.agents import Greedy, PPOAgent, SACAgent
from metarl.rl.types import Trajectories
from metarl.types import Metrics, Params

Draw = Callable[[int], Steps]
"""How many steps -> so many of those that were kept, drawn at random: [1, n]."""


MOMENTS = "moments"
"""The group of an expert's numbers that are its optimizers'."""


class Expert(Protocol):
    """An algorithm with its settings. It holds nothing: `numbers` come in and go out."""

    keeps_data: bool
    """Whether it learns from what it has seen before, too, by a `Draw`."""

    def initial(self) -> Params:
        """The numbers of a model that has learned nothing; always the same ones."""
        ...

    def outputs(self, numbers: Params, obs: Tensor) -> Outputs:
        """What the policies of N tasks, numbers [N, ...], say at obs [N, E, O]: leaves [N, E,
        ...]."""
        ...

    def act(self, outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
        """Actions of the environment, samples or without noise the most likely ones, and their
        log-probabilities where a loss asks for them."""
        ...

    def log_prob(self, outputs: Outputs, action: Tensor) -> Tensor | None:
        """How likely given actions are; None where no loss asks for it."""
        ...

    def learn(
        self, numbers: Params, data: Trajectories, draw: Draw | None, noise: Noise | None
    ) -> tuple[Params, Metrics]:
        """The numbers after the algorithm has learned from new episodes [N, E, T], all of them as
        of one task.

        Args: draw: of all steps that were kept, the new ones among them; None unless `keeps_data`.
        Raises: NothingLearnable if there are no steps.
        """
        ...

    def greedy(self, numbers: Params) -> nn.Module:
        """What the policy most likely does, [..., O] -> [..., A], as a module of its own."""
        ...


Agent = TypeVar("Agent", PPOAgent, SACAgent)


class AgentNumbers(Generic[Agent]):
    """The half of an `Expert` that every algorithm has alike: where the numbers lie while it works,
    and what an agent says with them."""

    def __init__(self, agent: Agent, others: Mapping[str, Params]) -> None:
        """Args: others: further groups of tensors that learning changes in place."""
        self._agent: Agent = agent
        own = {**P.of(agent), **dict(agent.named_buffers())}
        self._tensors = P.joined({"agent": own, **others})
        self._initial = self._copied()

    def initial(self) -> Params:
        return self._initial

    def outputs(self, numbers: Params, obs: Tensor) -> Outputs:
        of_agent = P.group(numbers, "agent")
        call = torch.func.vmap(lambda own, rows: P.call(self._agent, own, rows))
        found: Outputs = call(of_agent, obs)
        return found

    def greedy(self, numbers: Params) -> nn.Module:
        self._put(numbers)
        return Greedy(self._agent)

    def _put(self, numbers: Params) -> None:
        """Lets the library's model have learned these numbers."""
        P.assign(self._tensors, numbers)

    def _copied(self) -> Params:
        """The numbers as the model has them now."""
        return {name: leaf.clone() for name, leaf in self._tensors.items()}


def check_data(data: Trajectories) -> None:
    """Raises: NothingLearnable if there are no steps to learn from."""
    usable = data.learnable
    if not usable.any():
        raise NothingLearnable(
            f"fine-tuning has no data: {usable.shape[1]} episodes of 0 steps, or of steps whose "
            "physics blew up; expected one step or more"
        )


def adam_tensors(params: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> Params:
    """The moments of torch's Adam by the names of its parameters; they share memory with it. An
    optimizer that has taken no step yet is given its zeros."""
    found: Params = {}
    for name, leaf in params.items():
        state = optimizer.state[leaf]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(leaf)
            state["exp_avg_sq"] = torch.zeros_like(leaf)
        found |= {f"{name}.{key}": value for key, value in state.items()}
    return found


def means(logged: Mapping[str, float], names: Mapping[str, str]) -> Metrics:
    """What Stable-Baselines3 logged of an update, under our names where it has them."""
    return {ours: float(logged[theirs]) for theirs, ours in names.items() if theirs in logged}
