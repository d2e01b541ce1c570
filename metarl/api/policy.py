"""An adapted policy: a function from observations to actions, a torch module, and a file that runs
without metarl."""

import warnings
from pathlib import Path
from typing import Any, SupportsIndex, cast

import numpy as np
import torch
import torch.utils._pytree as pytree
from gymnasium import spaces
from torch import Tensor, nn

from metarl.api.export import export
from metarl.api.given import check_spaces, floats, given_action, number, place, whole
from metarl.errors import UserError
from metarl.noise import Noise
from metarl.rl.types import Act, RLAdapter, Step
from metarl.struct import replace
from metarl.surroundings import among_ordinary_tensors


class Policy:
    """Acts on one task as the learner does after adapting to it.

        action = policy(obs)
        action = policy(obs, reward)

    An agent with a memory goes on learning within an episode, from the reward of its last action;
    where none is given, the mean reward of the episodes it adapted on stands for it. `reset` begins
    a new episode, with what was known after adaptation. Other agents need neither.

    To collect episodes for `Agent.adapt` in a loop of one's own, let it explore as while it adapts:

        policy.reset(explore=True)
        action = policy(obs, deterministic=False)

    Args:
      adapter, state: the learner's, after adaptation, of one task.
      spaces: what it sees and does; horizon: the steps of an episode in training.
      mean_reward: of a step while it adapted.
      seed: of the noise where actions are sampled.
    """

    def __init__(
        self,
        adapter: RLAdapter[Any],
        state: Any,
        *,
        spaces: tuple[spaces.Box, spaces.Box | spaces.Discrete],
        horizon: int,
        mean_reward: float,
        seed: int,
    ) -> None:
        self._adapter, self._start = adapter, state
        self.observation_space, self.action_space = spaces
        self._horizon, self._mean_reward = horizon, mean_reward
        self._noise = Noise(torch.Generator().manual_seed(seed))
        self._asked = False  # whether it was looked at what a forgotten reward does
        self.reset()

    def __repr__(self) -> str:
        seen, done = self.observation_space, self.action_space
        shown = (
            f"{done.n} actions" if isinstance(done, spaces.Discrete) else f"actions {done.shape}"
        )
        return f"Policy(observations {seen.shape} -> {shown})"

    @among_ordinary_tensors
    def reset(self, *, explore: bool = False) -> None:
        """Begins a new episode.

        Args: explore: draws anew what the policy holds for an episode, or what it takes the task
          for; else it is the most likely.
        """
        self._state: Any = self._start
        if explore:
            self._state = self._adapter.redraw(self._start, self._noise)
        self._before: tuple[Tensor, Act] | None = None

    @property
    def latent(self) -> np.ndarray | None:
        """[L] what the policy holds for the present episode; None if it holds nothing."""
        latent = self._adapter.episode_latent(self._state)
        return None if latent is None else latent.value[0, 0].numpy().copy()

    @among_ordinary_tensors
    def __call__(
        self,
        obs: Any,
        reward: float | None = None,
        *,
        deterministic: bool = True,
        executed: Any = None,
    ) -> Any:
        """The action at obs [O]: an array [A], or a number where actions are discrete.

        Args:
          reward: what the action before has earned, one number. Nothing comes before an episode's
            first action, and an agent without a memory has no use for it.
          deterministic: the most likely action; False: one drawn from the policy.
          executed: the action before as it was really taken, where something changed it, for
            instance a limit on rates: an agent with a memory learns from that.
        Raises: UserError for an observation of another shape, or numbers that aren't finite.
        """
        present = as_obs(obs, self.observation_space)
        rows = in_each_world(self._adapter, self._state, present)
        if self._before is not None:
            earned = self._mean_reward if reward is None else number(reward, "reward")
            last, act = self._before
            if executed is not None:
                taken = given_action(executed, self.action_space, "executed")
                act = replace(act, action=taken.expand_as(act.action))
            known = self._state
            self._state = self._adapter.observe(known, last, act, one_step(rows, earned))
            if reward is None and not self._asked:
                self._asked = True
                other = self._adapter.observe(known, last, act, one_step(rows, earned + 1.0))
                self._warn_if_it_matters(rows, self._state, other)
        act = self._adapter.act(self._state, rows, None if deterministic else self._noise)
        self._before = (rows, act)
        return as_env_action(act.action[0], self.action_space)

    def _warn_if_it_matters(self, rows: Tensor, with_mean: Any, with_another: Any) -> None:
        """Args: with_mean, with_another: states after different rewards."""
        acts = [self._adapter.act(state, rows, None) for state in (with_mean, with_another)]
        leaves = [
            [leaf for leaf in pytree.tree_leaves(act) if isinstance(leaf, Tensor)] for act in acts
        ]
        if not all(map(torch.equal, *leaves)):
            warnings.warn(
                "this agent learns from the reward of its last action within an episode, and got "
                "none: the mean reward of its adaptation stands for it; expected "
                "policy(obs, reward), and reset() before an episode",
                stacklevel=4,
            )

    def play(
        self,
        env: Any,
        episodes: SupportsIndex = 1,
        *,
        seed: SupportsIndex | None = None,
        deterministic: bool = True,
    ) -> np.ndarray:
        """Plays episodes from the adapted state, each by itself. Returns their returns [episodes].

        Args: seed: of the first reset and of the policy's noise; None: none is given, and the noise
        goes on.
        Raises: UserError if the environment's spaces aren't those of the policy.
        """
        check_spaces(env, (self.observation_space, self.action_space))
        returns = np.zeros(whole(episodes, "episodes"))
        first = None if seed is None else whole(seed, "seed")
        if first is not None:
            self._noise = Noise(torch.Generator().manual_seed(first))
        for episode in range(len(returns)):
            self.reset()
            obs, _ = env.reset(seed=first if episode == 0 else None)
            reward: float | None = None
            for _ in range(self._horizon):
                action = self(obs, reward, deterministic=deterministic)
                obs, earned, terminated, truncated, _ = env.step(action)
                reward = number(earned, "the environment's reward")
                returns[episode] += reward
                if terminated or truncated:
                    break
        self.reset()
        return returns

    @property
    def module(self) -> nn.Module:
        """The policy as a torch module, which needs nothing else: obs [..., O] -> action [..., A],
        or [...] int64 where actions are discrete.

        That of an agent with a memory takes one observation at a time:
        `action, memory = module(obs, reward, memory)` with obs [O], reward [] and memory of the
        shape of `module.start`, with which an episode begins. Actions lie in the action space.
        Raises: UserError where the agent plans, or remembers more and more.
        """
        obs = torch.zeros(self.observation_space.shape or ())
        found = self._adapter.as_module(self._start, obs)
        if found is None:
            raise UserError(
                f"{type(self._adapter).__name__}: what it does isn't a network with a state of one "
                "size, so there is no module; call the policy instead"
            )
        wrapper = _RemembersInItsSpace if hasattr(found, "start") else _InItsSpace
        return wrapper(found, self.action_space).eval()

    def export(self, path: str | Path) -> Path:
        """Writes the module to a file that runs without metarl, see `metarl.api.export`.

        Args: path: policy.pt (TorchScript), policy.pt2 (torch.export), or policy.onnx (ONNX).
        Raises: UserError for another ending, or without the package `onnx` where it is needed.
        """
        file = place(path, "path")
        return export(self.module, file, torch.zeros(self.observation_space.shape or ()))


class _InItsSpace(nn.Module):
    """A module that takes observations of any kind of number, and whose actions are moved into the
    action space."""

    def __init__(self, module: nn.Module, action_space: spaces.Box | spaces.Discrete) -> None:
        super().__init__()
        self.module, self.is_box = module, isinstance(action_space, spaces.Box)
        if isinstance(action_space, spaces.Box):
            self.register_buffer("low", torch.as_tensor(action_space.low))
            self.register_buffer("high", torch.as_tensor(action_space.high))
        self.requires_grad_(False)

    def forward(self, obs: Tensor) -> Any:
        return self._clipped(self.module(obs.float()))

    def _clipped(self, action: Tensor) -> Tensor:
        return action.clamp(self.low, self.high) if self.is_box else action  # type: ignore[arg-type]


class _RemembersInItsSpace(_InItsSpace):
    """The same of a module with a memory."""

    def __init__(self, module: nn.Module, action_space: spaces.Box | spaces.Discrete) -> None:
        super().__init__(module, action_space)
        self.register_buffer("start", cast(Tensor, module.start))

    # Files of TorchScript show these names.
    def forward(self, obs: Tensor, reward: Tensor, memory: Tensor) -> Any:  # type: ignore[override]
        action, memory = self.module(obs.float(), reward.float(), memory.float())
        return self._clipped(action), memory


def as_obs(obs: Any, space: spaces.Box) -> Tensor:
    """An observation of the user's [O], float32. Raises: UserError for another shape, or what isn't
    a finite number."""
    found = floats(obs, "an observation")
    if found.shape != space.shape:
        raise UserError(f"an observation has the shape {found.shape}; expected {space.shape}")
    return torch.from_numpy(found)


def as_env_action(action: Tensor, space: spaces.Box | spaces.Discrete) -> Any:
    """An action as an environment takes it: an array in the box, or a number."""
    if isinstance(space, spaces.Discrete):
        return int(action)
    return action.numpy().clip(space.low, space.high).astype(space.dtype, copy=False)


def in_each_world(adapter: RLAdapter[Any], state: Any, obs: Tensor) -> Tensor:
    """One observation [O] in all worlds that the state is of: [W, O]. A learner by gradients plays
    several episodes of a task side by side; here they come one after the other."""
    latent = adapter.episode_latent(state)
    return obs.expand(1 if latent is None else latent.value.shape[1], -1)


def one_step(
    next_obs: Tensor, reward: float, *, terminated: bool = False, truncated: bool = False
) -> Step:
    """What happened, in each of the worlds of next_obs [W, O]."""
    each = next_obs.shape[:1]
    return Step(
        next_obs=next_obs,
        reward=torch.full(each, reward, dtype=torch.float32),  # whatever torch's default type is
        terminated=torch.full(each, terminated),
        truncated=torch.full(each, truncated),
        diverged=torch.full(each, False),
        terms={},
    )
