"""How an agent with a belief meets new tasks: what it believes goes on through the episodes of a
trial, and is all that adapts."""

import copy

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.nn.gaussians import Gaussian
from metarl.noise import Noise
from metarl.rl.adapters.memory import all_running, still_running
from metarl.rl.adapters.one_tensor import OneTensor
from metarl.rl.data.replay import Steps
from metarl.rl.models.belief import BeliefModel
from metarl.rl.types import Act, Belief, RLAdapter, Steady, Step, Trajectories
from metarl.struct import replace, struct


@struct
class BeliefState:
    """Where each of W trials stands."""

    hidden: Tensor  # [W, H] of the encoder
    belief: Gaussian  # [W, L] that it gives
    first: Tensor  # [W] bool: the next step is the first of its episode
    running: Tensor | None
    """[W] bool: the present episode goes on; where it doesn't, the rest waits for the next one.
    None: it does everywhere."""


class BeliefAdapter(RLAdapter[BeliefState]):
    """Shares memory with the model it was given: it acts with the parameters of now.

    `act` and `observe` run in inference mode, as those of
    `metarl.rl.adapters.memory.MemoryAdapter`.
    """

    def __init__(self, model: BeliefModel) -> None:
        self._model = model
        self._policy_params = P.of(model.heads.policy)

    @torch.inference_mode()
    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> BeliefState:
        hidden = self._model.encoder.initial(num_tasks * episodes_per_task)
        return BeliefState(
            hidden=hidden,
            belief=self._model.encoder.belief(hidden),
            first=torch.ones(len(hidden), dtype=torch.bool, device=hidden.device),
            running=None,
        )

    @torch.inference_mode()
    def act(self, state: BeliefState, obs: Tensor, noise: Noise | None) -> Act:
        heads = self._model.heads
        features = heads.features(heads.inputs(obs, state.belief))
        outputs = heads.policy.with_params(self._policy_params, features)
        action, log_prob = heads.policy.act(outputs, noise)
        return Act(action=action, log_prob=log_prob)

    @torch.inference_mode()
    def observe(self, state: BeliefState, obs: Tensor, act: Act, step: Step) -> BeliefState:
        seen = Steps(
            obs=obs,
            action=act.action,
            reward=step.reward,
            next_obs=step.next_obs,
            terminated=step.terminated,
            first=state.first,
            mask=torch.ones_like(state.first),
        )
        encoder = self._model.encoder
        hidden = encoder.step(self._model.parts(seen), state.hidden, state.running)
        return BeliefState(
            hidden=hidden,
            belief=encoder.belief(hidden),
            first=torch.zeros_like(state.first),
            running=still_running(state.running, step.terminated | step.truncated),
        )

    def steady(self, state: BeliefState, obs: Tensor) -> Steady[BeliefState]:
        return Steady(
            state=replace(state, running=all_running(state.running, obs)),
            reads=(*self._model.parameters(), *self._model.buffers()),
        )

    def update(
        self, state: BeliefState, data: Trajectories, noise: Noise | None = None
    ) -> BeliefState:
        """The next episode begins in every world; all that was learned is in the belief already."""
        return replace(state, first=torch.ones_like(state.first), running=None)

    @torch.no_grad()
    def as_module(self, state: BeliefState, obs: Tensor) -> "BelievingPolicy":
        return BelievingPolicy(self._model, state.hidden[:1].clone(), obs)

    @torch.inference_mode()
    def belief(self, state: BeliefState) -> Belief:
        return Belief(
            mean=state.belief.mean,
            deviation=state.belief.deviation,
            chances=self._model.chances(state.belief),
        )


class BelievingPolicy(nn.Module):
    """The mode of an agent with a belief, called as a `metarl.rl.adapters.memory.RememberedPolicy`:
    what it remembers is the encoder's state and the step before.

    Args: hidden: [1, H] of the encoder, what was known when this was made; obs: any [O].
    """

    start: Tensor  # [M]

    def __init__(self, model: BeliefModel, hidden: Tensor, obs: Tensor) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        num_steps = torch.zeros(1)  # of this episode that it has acted in
        start = (hidden, obs[None], self._act(obs[None], hidden), num_steps)
        self._packed = OneTensor(start)
        self.register_buffer("start", self._packed.flat(start))

    def forward(self, obs: Tensor, reward: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        hidden, last_obs, last_action, num_steps = self._packed.tree(memory)
        last = Steps(
            obs=last_obs,
            action=last_action,
            reward=reward.reshape(1),
            next_obs=obs[None],
            terminated=torch.zeros_like(num_steps, dtype=torch.bool),
            first=num_steps == 1,
            mask=num_steps > 0,
        )
        hidden = self.model.encoder.step(self.model.parts(last), hidden, last.mask)
        action = self._act(obs[None], hidden)
        return action[0], self._packed.flat((hidden, obs[None], action, num_steps + 1))

    def _act(self, obs: Tensor, hidden: Tensor) -> Tensor:
        heads = self.model.heads
        features = heads.features(heads.inputs(obs, self.model.encoder.belief(hidden)))
        action: Tensor = heads.policy.act(heads.policy(features), None)[0]
        return action
