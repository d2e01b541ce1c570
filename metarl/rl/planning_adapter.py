"""How a model-based learner meets new tasks: it plans with a model whose memory holds what the task has shown so far."""

from typing import Generic, Protocol, TypeVar

import gymnasium
import torch
from torch import Tensor

from metarl.nn.dynamics import Transitions
from metarl.rl.planning import Planner, Score, bounds_of, shifted
from metarl.rl.types import Step, Trajectories
from metarl.struct import replace, struct

Memory = TypeVar("Memory")


class WorldModel(Protocol[Memory]):
    """What the planner asks of a model. Its memory is a hidden state, or the last transitions to adapt on."""

    def empty_memory(self, num_worlds: int) -> Memory: ...

    def score(self, memory: Memory, obs: Tensor) -> Score:
        """The imagined returns of action sequences from obs [W, O], as each world's memory has it."""
        ...

    def remember(self, memory: Memory, seen: Transitions) -> Memory:
        """The memory after a transition of each world, leaves [W, ...]; unchanged where `mask` is False."""
        ...

    def error(self, memory: Memory, seen: Transitions) -> Tensor:
        """[W] mean squared error of the prediction of the transitions, in normalised units, before they are remembered."""
        ...


@struct
class Planning(Generic[Memory]):
    memory: Memory
    plan: Tensor  # [H, W, A] from which the next search starts
    over: Tensor  # [W] bool: the episode has ended; what comes after isn't remembered


class PlanningAdapter(Generic[Memory]):
    """Meets metarl.rl.types.RLAdapter. The memory goes on from episode to episode; a plan ends with its episode.

    Raises: ValueError unless the actions lie in a flat box with finite bounds.
    """

    def __init__(
        self, model: WorldModel[Memory], planner: Planner, action_space: gymnasium.Space, device: torch.device
    ) -> None:
        self._model, self._planner = model, planner
        self._bounds = bounds_of(action_space, device)
        # `act` returns no state. Its plan waits here for `observe` of the same state.
        self._planned: tuple[Planning[Memory], Tensor] | None = None

    def begin(self, num_tasks: int, episodes_per_task: int = 1) -> Planning[Memory]:
        num_worlds = num_tasks * episodes_per_task
        plan = self._bounds.middle(self._planner.horizon, num_worlds)
        return Planning(
            memory=self._model.empty_memory(num_worlds),
            plan=plan,
            over=torch.zeros(num_worlds, dtype=torch.bool, device=plan.device),
        )

    @torch.no_grad()
    def act(self, state: Planning[Memory], obs: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The first actions of the best plans found. Plans have no density: the log-probabilities are 0.

        No generator: the search draws the same candidates at every call.
        """
        if generator is None:
            generator = torch.Generator(obs.device).manual_seed(0)
        plan = self._planner(self._model.score(state.memory, obs), state.plan, self._bounds, generator)
        self._planned = (state, plan)
        return plan[0], plan.new_zeros(len(obs))

    @torch.no_grad()
    def observe(self, state: Planning[Memory], obs: Tensor, action: Tensor, step: Step) -> Planning[Memory]:
        known = self._planned is not None and self._planned[0] is state
        plan = self._planned[1] if known and self._planned is not None else state.plan
        return Planning(
            memory=self._model.remember(state.memory, self._seen(state, obs, action, step)),
            plan=shifted(plan, self._bounds),
            over=state.over | step.terminated | step.truncated,
        )

    def update(self, state: Planning[Memory], data: Trajectories) -> Planning[Memory]:
        """A new episode of the trial: the memory has taken in every step already."""
        return replace(state, plan=self._bounds.middle(*state.plan.shape[:2]), over=torch.zeros_like(state.over))

    @torch.no_grad()
    def measure(self, state: Planning[Memory], obs: Tensor, action: Tensor, step: Step) -> dict[str, Tensor]:
        """What is worth drawing of a step, [W] each: how far the model's prediction was off."""
        return {"prediction error": self._model.error(state.memory, self._seen(state, obs, action, step)).sqrt()}

    def _seen(self, state: Planning[Memory], obs: Tensor, action: Tensor, step: Step) -> Transitions:
        return Transitions(
            obs=obs,
            action=self._bounds.clip(action),
            next_obs=step.next_obs,
            reward=step.reward,
            mask=~(state.over | step.diverged),
        )
