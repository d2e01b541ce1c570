"""What PEARL plays in an iteration and keeps: training tasks under guesses from the prior, then
from the posterior, in a replay that has a ring and a context for each task."""

from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from metarl.core.checks import check_counts, check_not_negative
from metarl.errors import SettingError
from metarl.nn.gaussians import GaussianByVariance
from metarl.nn.task_posterior import product
from metarl.rl.adapters.posterior import PosteriorAdapter
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import collect
from metarl.rl.data.replay import Replay, Steps, Use
from metarl.rl.data.rounds import Rollouts
from metarl.rl.models.pearl import PearlModel
from metarl.rl.types import Trajectories
from metarl.struct import map_tensors


class Play:
    """Plays N training tasks at a time, one episode of each side by side.

    Args: see configs/algo/pearl.yaml.
    Raises: SettingError, naming it, for a number out of range, or contexts larger than what is
      played for them.
    """

    def __init__(
        self,
        model: PearlModel,
        setting: Setting,
        *,
        num_tasks: int,
        initial_steps: int,
        prior_steps: int,
        posterior_steps: int,
        rl_steps: int,
        replay_capacity: int,
        context_size: int,
        cost: str | None,
    ) -> None:
        check_counts(
            {
                "initial_steps": initial_steps,
                "prior_steps": prior_steps,
                "context_size": context_size,
            }
        )
        check_not_negative({"posterior_steps": posterior_steps, "rl_steps": rl_steps})
        if posterior_steps + rl_steps == 0:
            raise SettingError("posterior_steps 0 and rl_steps 0: expected 1 or more of either")
        for_context = prior_steps + posterior_steps
        if context_size > for_context:
            raise SettingError(
                f"context_size {context_size}: expected at most {for_context}, the steps that a "
                f"context is played for (prior_steps {prior_steps} + posterior_steps "
                f"{posterior_steps})"
            )
        self._model = model
        self._setting = setting
        self._num_tasks = num_tasks
        self._initial_steps = initial_steps
        self._prior_steps = prior_steps
        self._posterior_steps = posterior_steps
        self._rl_steps = rl_steps
        self._context_size = context_size
        self._cost = cost
        self._num_train = setting.env.prior.num_train
        self._tasks = setting.env.prior.train_tasks()
        self.has_begun = False
        """Whether every training task has been played."""
        self.replay: Replay | None = None
        if self._num_train is not None:
            horizon, copies = setting.env.spec.horizon, -(-num_tasks // self._num_train)
            parts = (prior_steps, posterior_steps, rl_steps)
            most = copies * sum(-(-steps // horizon) * horizon for steps in parts)
            # Else a context could be gone before it is used. Where other tasks' episodes end early,
            # a task plays more than this; the replay says so if that takes its context's room.
            if replay_capacity < most:
                raise SettingError(
                    f"replay_capacity {replay_capacity}: expected {most} or more, the steps that "
                    "an iteration plays on a task"
                )
            self.replay = Replay(
                num_tasks=self._num_train,
                capacity=replay_capacity,
                obs_size=setting.env.observation_space.shape[0],
                action_space=setting.env.action_space,
                has_cost=cost is not None,
                device=setting.device,
            )

    def check(self) -> None:
        """Raises: SettingError if there is no fixed set of training tasks, or no such term as
        `cost`."""
        env = self._setting.env
        if self.replay is None:
            raise SettingError(
                f"{env.spec.name} draws new training tasks all the time, but pearl keeps a replay "
                "of each: expected a fixed number of them, for instance env.num_train_tasks=100"
            )
        if self._cost is not None and not self.has_begun:
            terms = self._terms()
            if self._cost not in terms:
                known = ", ".join(terms) or "there are none"
                raise SettingError(
                    f"cost {self._cost}: expected a term of {env.spec.name}'s steps: {known}"
                )

    def begin(self) -> int:
        """Plays every training task under the prior; the last N tasks are filled up with the first
        ones, which play more. Returns how many steps that took, 0 if it was done before."""
        num_train, num_steps = self.num_train, 0
        if self.has_begun:
            return 0
        # Fewer tasks than worlds play in several of them at once.
        steps = -(-self._initial_steps // max(1, self._num_tasks // num_train))
        for start in range(0, num_train, self._num_tasks):
            ids = (start + torch.arange(self._num_tasks)) % num_train
            num_steps += self._episodes(ids, steps, "grows").num_steps
        self.has_begun = True
        return num_steps

    def gather(self) -> Rollouts:
        """Plays some training tasks, whose contexts begin anew. Returns the episodes under the
        prior as support, and those under the posterior as query."""
        ids = self._some_tasks()
        under_prior = self._episodes(ids, self._prior_steps, "begins")
        parts: tuple[tuple[int, Use], ...] = (
            (self._posterior_steps, "grows"),
            (self._rl_steps, "stays"),
        )
        later = [self._episodes(ids, steps, use, infers=True) for steps, use in parts if steps]
        return Rollouts(support=(under_prior,), query=_side_by_side(later))

    def context(self, ids: Tensor) -> Steps:
        """[n, C] drawn from the present contexts of these tasks [n]."""
        return self.kept.context(ids, self._context_size, self._setting.streams.policy)

    def posterior(self, context: Steps) -> GaussianByVariance:
        """[n, L] given contexts [n, C]."""
        model = self._model
        action = model.actions.to_unit(context.action)
        return product(model.factors(context.obs, action, context.reward, context.next_obs))

    @property
    def num_train(self) -> int:
        assert self._num_train is not None, "check() comes first"
        return self._num_train

    @property
    def kept(self) -> Replay:
        assert self.replay is not None, "check() comes first"
        return self.replay

    def _some_tasks(self) -> Tensor:
        """[N] numbers of training tasks; none comes twice before all have come once."""
        rounds = -(-self._num_tasks // self.num_train)
        generator = self._setting.streams.tasks
        drawn = [torch.randperm(self.num_train, generator=generator) for _ in range(rounds)]
        return torch.cat(drawn)[: self._num_tasks]

    def _episodes(
        self, ids: Tensor, num_steps: int, use: Use, *, infers: bool = False
    ) -> Trajectories:
        """Plays episodes of these tasks, one of each after the other, until they have `num_steps`
        each on average, and keeps them. Every episode has a z of its own.

        Args:
          use: what becomes of the contexts.
          infers: whether z comes from the posterior given the context that a task has by then.
        Returns: all of them, [N, E, T].
        """
        setting, played, begun = self._setting, list[Trajectories](), set[int]()
        noise = setting.streams.policy
        adapter = PosteriorAdapter(self._model, exploration_episodes=1, cost=self._cost)
        tasks = map_tensors(lambda leaf: leaf[ids], self._tasks)
        while sum(t.num_steps for t in played) < num_steps * len(ids):
            if infers:
                with torch.no_grad():
                    state = adapter.believing(self.posterior(self.context(ids)), noise)
            else:
                state = adapter.begin(len(ids), noise=noise)
            episodes, _ = collect(
                *(setting.env, adapter, state, tasks, setting.streams),
                episodes_per_task=1,
                device=setting.device,
            )
            # A task whose first episode diverged at once has nothing to begin with yet.
            uses: list[Use] = [
                "grows" if use == "begins" and task in begun else use for task in ids.tolist()
            ]
            begun |= self.kept.add(ids, episodes, context=uses)
            played.append(episodes)
        return _side_by_side(played)

    def _terms(self) -> list[str]:
        """The names of the terms that the environment's steps have: only a step tells."""
        env = self._setting.env
        env.set_tasks(env.prior.test_tasks(env.num_worlds))
        env.reset(torch.full((env.num_worlds, env.num_uniforms), 0.5, dtype=torch.float64))
        still = torch.zeros(env.num_worlds, self._model.actions.size, device=self._setting.device)
        return sorted(env.step(self._model.actions.to_env(still)).terms)


def _side_by_side(episodes: list[Trajectories]) -> Trajectories:
    """[N, E_k, T] each -> [N, Σ E_k, T]."""

    def join(*leaves: Any) -> Any:
        return torch.cat(leaves, dim=1) if isinstance(leaves[0], Tensor) else leaves[0]

    return pytree.tree_map(join, *episodes)
