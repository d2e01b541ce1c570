"""A model-based learner meets new tasks: it plans with a model whose memory holds what the task has
shown so far."""

from typing import Generic, Protocol, TypeVar

import gymnasium
import torch
from torch import Tensor

from metarl.nn.dynamics import Transitions
from metarl.noise import Noise
from metarl.rl.planning import Planner, Score, bounds_of, shifted
from metarl.rl.types import Act, RLAdapter, Step, Trajectories
from metarl.struct import replace, struct

Memory = TypeVar("Memory")


class WorldModel(Protocol[Memory]):
    """What the planner asks of a model. Its memory is a hidden state, or the last transitions to
    adapt on."""

    def empty_memory(self, num_worlds: int) -> Memory: ...

    def score(self, memory: Memory, obs: Tensor) -> Score:
        """The imagined returns of action sequences from obs [W, O], as each world's memory has
        it."""
        ...

    def remember(self, memory: Memory, seen: Transitions) -> Memory:
        """The memory after a transition of each world, leaves [W, ...]; unchanged where `mask` is
        False."""
        ...

    def error(self, memory: Memory, seen: Transitions) -> Tensor:
        """[W] mean squared error of the prediction of the transitions, in normalised units, before
        they are remembered."""
        ...


@struct
class Planning(Generic[Memory]):
    memory: Memory
    plan: Tensor  # [H, W, A] from which the next search starts
    over: Tensor  # [W] bool: the episode has ended; what comes after isn't remembered


class PlanningAdapter(RLAdapter[Planning[Memory]], Generic[Memory]):
    """The memory goes on from episode to episode; a plan ends with its episode.

    Raises: ValueError unless the actions lie in a flat box with finite bounds.
    """

    def __init__(
        self,
        model: WorldModel[Memory],
        planner: Planner,
        action_space: gymnasium.Space,
        device: torch.device,
    ) -> None:
        self._model = model
        self._planner = planner
        self._bounds = bounds_of(action_space, device)

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Planning[Memory]:
        num_worlds = num_tasks * episodes_per_task
        plan = self._bounds.middle(self._planner.horizon, num_worlds)
        return Planning(
            memory=self._model.empty_memory(num_worlds),
            plan=plan,
            over=torch.zeros(num_worlds, dtype=torch.bool, device=plan.device),
        )

    @torch.no_grad()
    def act(self, state: Planning[Memory], obs: Tensor, noise: Noise | None) -> Act:
        """The first actions of the best plans found, which it carries. Plans have no density.

        No noise: the search draws the same candidates at every call.
        """
        noise = noise or Noise(torch.Generator(obs.device).manual_seed(0))
        plan = self._planner(self._model.score(state.memory, obs), state.plan, self._bounds, noise)
        return Act(action=plan[0], carry=plan)

    @torch.no_grad()
    def observe(
        self, state: Planning[Memory], obs: Tensor, act: Act, step: Step
    ) -> Planning[Memory]:
        return Planning(
            memory=self._model.remember(state.memory, self._seen(state, obs, act, step)),
            plan=shifted(state.plan if act.carry is None else act.carry, self._bounds),
            over=state.over | step.terminated | step.truncated,
        )

    def update(
        self, state: Planning[Memory], data: Trajectories, noise: Noise | None = None
    ) -> Planning[Memory]:
        """Begins a new episode of the trial: the memory has taken in every step already."""
        return replace(
            state,
            plan=self._bounds.middle(*state.plan.shape[:2]),
            over=torch.zeros_like(state.over),
        )

    @torch.no_grad()
    def measure(
        self, state: Planning[Memory], obs: Tensor, act: Act, step: Step
    ) -> dict[str, Tensor]:
        """Returns how far the model's prediction was off, by the name `prediction error`."""
        return {
            "prediction error": self._model.error(
                state.memory, self._seen(state, obs, act, step)
            ).sqrt()
        }

    def _seen(self, state: Planning[Memory], obs: Tensor, act: Act, step: Step) -> Transitions:
        return Transitions(
            obs=obs,
            action=self._bounds.clip(act.action),
            next_obs=step.next_obs,
            reward=step.reward,
            mask=~(state.over | step.diverged),
        )
