"""An agent with a memory meets new tasks: its hidden state goes on through the episodes of a trial,
and is all that adapts."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.nn.recurrent import Memory
from metarl.noise import Noise
from metarl.rl.types import Act, RLAdapter, Step, Trajectories
from metarl.struct import choose_rows, replace, struct


@struct
class TrialState:
    """The present state of W trials."""

    memory: Any  # leaves [W, ...]
    feedback: (
        Tensor  # [W, F] of the trial's last step, over the ends of episodes; zeros before the first
    )
    running: Tensor | None
    """[W] bool: the present episode goes on; where it doesn't, the rest waits for the next one.
    None: it does everywhere."""


class RemembersItsTrial(Protocol):
    """What the adapter asks of a model, such as `metarl.rl.models.memory.MemoryModel`."""

    @property
    def memory(self) -> Memory: ...

    @property
    def policy(self) -> Any:
        """A module that acts as a `metarl.nn.heads.Policy` does."""
        ...

    def feedback(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor
    ) -> Tensor:
        """What the next step gets to know of this one: [..., F]."""
        ...

    def no_feedback(self, shape: Sequence[int]) -> Tensor:
        """[*shape, F]: before the first step of a trial."""
        ...

    def inputs(self, obs: Tensor, feedback: Tensor) -> Tensor:
        """What the memory takes, [..., I]."""
        ...


class MemoryAdapter(RLAdapter[TrialState]):
    """Shares memory with the model it was given: it acts with the parameters of now.

    An act carries the memory after its observation, so that a step costs one forward pass. `act`
    and `observe` run in inference mode, where the many small operations cost a fifth less than
    without gradients alone; what they return can't enter a graph.
    """

    def __init__(self, model: RemembersItsTrial) -> None:
        self._model = model
        self._policy_params = P.of(model.policy)

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> TrialState:
        num_worlds = num_tasks * episodes_per_task
        return TrialState(
            memory=self._model.memory.initial(num_worlds),
            feedback=self._model.no_feedback((num_worlds,)),
            running=None,
        )

    @torch.inference_mode()
    def act(self, state: TrialState, obs: Tensor, noise: Noise | None) -> Act:
        output, memory = self._remember(state, obs)
        policy = self._model.policy
        action, log_prob = policy.act(policy.with_params(self._policy_params, output), noise)
        return Act(action=action, log_prob=log_prob, carry=memory)

    @torch.inference_mode()
    def observe(self, state: TrialState, obs: Tensor, act: Act, step: Step) -> TrialState:
        memory = self._remember(state, obs)[1] if act.carry is None else act.carry
        feedback = self._model.feedback(
            obs, act.action, step.reward, step.terminated, step.truncated
        )
        return TrialState(
            memory=memory,
            feedback=feedback
            if state.running is None
            else choose_rows(state.running, feedback, state.feedback),
            running=still_running(state.running, step.terminated | step.truncated),
        )

    def update(
        self, state: TrialState, data: Trajectories, noise: Noise | None = None
    ) -> TrialState:
        """The next episode begins in every world; all that was learned is in the memory already."""
        return replace(state, running=None)

    def _remember(self, state: TrialState, obs: Tensor) -> tuple[Tensor, Any]:
        return self._model.memory.step(
            self._model.inputs(obs, state.feedback), state.memory, state.running
        )


def still_running(running: Tensor | None, ended: Tensor) -> Tensor | None:
    """Which episodes go on after a step; None: all do, as far as one knows."""
    if running is not None:
        return running & ~ended
    # On a GPU the question would cost a synchronisation a step.
    return None if ended.device.type == "cpu" and not ended.any() else ~ended
