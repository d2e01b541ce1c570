"""An agent with a memory meets new tasks: its hidden state goes on through the episodes of a trial,
and is all that adapts."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from metarl.core import params as P
from metarl.nn.recurrent import Memory
from metarl.noise import Noise
from metarl.rl.adapters.one_tensor import OneTensor
from metarl.rl.types import Act, NotSteady, RLAdapter, Steady, Step, Trajectories
from metarl.struct import choose_rows, map_tensors, replace, struct


@struct
class TrialState:
    """The present state of W trials."""

    memory: Any  # leaves [W, ...]
    feedback: Tensor
    """[W, F] of the trial's last step, over the ends of episodes; zeros before the first."""
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

    def parameters(self) -> Iterator[nn.Parameter]:
        """What `torch.nn.Module` gives, as `buffers` does."""
        ...

    def buffers(self) -> Iterator[Tensor]: ...

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

    @torch.no_grad()
    def steady(self, state: TrialState, obs: Tensor) -> Steady[TrialState]:
        first = map_tensors(lambda leaf: leaf[:1], replace(state, running=None))
        if self._grows(first, obs[:1]):
            raise NotSteady(f"its memory, {type(self._model.memory).__name__}, grows at every step")
        return Steady(
            state=replace(state, running=all_running(state.running, obs)),
            reads=(*self._model.parameters(), *self._model.buffers()),
        )

    @torch.no_grad()
    def as_module(self, state: TrialState, obs: Tensor) -> nn.Module | None:
        first = map_tensors(lambda leaf: leaf[:1].clone(), replace(state, running=None))
        if self._grows(first, obs[None]):
            return None  # What keeps all that it has seen doesn't fit into a tensor of one size.
        if self._forgets(first, obs[None]):
            return _ForgetfulPolicy(self._model)
        return RememberedPolicy(self._model, first, obs)

    def _forgets(self, state: TrialState, obs: Tensor) -> bool:
        """Whether no step leaves anything behind."""
        if any(leaf.numel() for leaf in pytree.tree_leaves(state.memory)):
            return False
        action, no = self.act(state, obs, None).action, torch.zeros(1, dtype=torch.bool)
        answered = self._model.feedback(obs, action, torch.ones(1), no, no)
        return torch.equal(answered, self._model.no_feedback((1,)))

    def _grows(self, state: TrialState, obs: Tensor) -> bool:
        """Whether a step makes the memory larger."""
        return _shapes(self._remember(state, obs)[1]) != _shapes(state.memory)

    def _remember(self, state: TrialState, obs: Tensor) -> tuple[Tensor, Any]:
        return self._model.memory.step(
            self._model.inputs(obs, state.feedback), state.memory, state.running
        )


class RememberedPolicy(nn.Module):
    """The mode of an agent with a memory, as a function of one tensor that holds all it remembers:

        action, memory = policy(obs, reward, memory)

    obs [O] is the present observation, reward [] what the action before it has earned; at an
    episode's first step it isn't looked at. An episode begins with the memory `start`, a buffer:
    what the agent knew when this was made.
    """

    start: Tensor  # [M]

    def __init__(self, model: RemembersItsTrial, state: TrialState, obs: Tensor) -> None:
        super().__init__()
        copied: Any = copy.deepcopy(model)
        self.model: RemembersItsTrial = copied.requires_grad_(False)
        action = self._act(self.model.inputs(obs[None], state.feedback), state.memory)[0]
        start = (state.memory, state.feedback, obs[None], action, torch.ones(1))
        self._packed = OneTensor(start)
        self.register_buffer("start", self._packed.flat(start))

    def forward(self, obs: Tensor, reward: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        past, feedback, last_obs, last_action, is_first = self._packed.tree(memory)
        no = torch.zeros(1, dtype=torch.bool, device=memory.device)
        reward = reward.reshape(1)
        answered = self.model.feedback(last_obs, last_action, reward, no, no)
        feedback = torch.where(is_first[:, None] > 0, feedback, answered)
        action, past = self._act(self.model.inputs(obs[None], feedback), past)
        now = (past, feedback, obs[None], action, torch.zeros_like(is_first))
        return action[0], self._packed.flat(now)

    def _act(self, inputs: Tensor, past: Any) -> tuple[Tensor, Any]:
        output, past = self.model.memory.step(inputs, past)
        return self.model.policy.act(self.model.policy(output), None)[0], past


class _ForgetfulPolicy(nn.Module):
    """The mode of an agent whose memory was taken away: obs [..., O] -> action."""

    def __init__(self, model: RemembersItsTrial) -> None:
        super().__init__()
        copied: Any = copy.deepcopy(model)
        self.model: RemembersItsTrial = copied.requires_grad_(False)

    def forward(self, obs: Tensor) -> Tensor:
        inputs = self.model.inputs(obs, self.model.no_feedback(obs.shape[:-1]))
        output, _ = self.model.memory.step(inputs, self.model.memory.initial(1))
        action: Tensor = self.model.policy.act(self.model.policy(output), None)[0]
        return action


def _shapes(tree: Any) -> list[torch.Size]:
    return [leaf.shape for leaf in pytree.tree_leaves(tree)]


def still_running(running: Tensor | None, ended: Tensor) -> Tensor | None:
    """Which episodes go on after a step; None: all do, as far as one knows."""
    if running is not None:
        return running & ~ended
    # On a GPU the question would cost a synchronisation a step.
    return None if ended.device.type == "cpu" and not ended.any() else ~ended


def all_running(running: Tensor | None, obs: Tensor) -> Tensor:
    """`running` as a tensor [W], whatever it was before obs [W, O]."""
    if running is not None:
        return running
    return torch.ones(len(obs), dtype=torch.bool, device=obs.device)
