"""Lets a trained learner adapt to one task: it plays episodes in a Gymnasium environment of the
user's, or reads episodes that are there already.

Our own environments step many worlds together; here there is one world, whose episodes come one
after the other.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from gymnasium import spaces
from torch import Tensor

from metarl.api.given import Episode, Spaces, check_spaces, number, whole
from metarl.api.policy import Policy, as_env_action, as_obs, in_each_world, one_step
from metarl.errors import UserError
from metarl.noise import Noise
from metarl.rl.types import Act, EpisodeLatent, RLAdapter, Sizes, Trajectories
from metarl.struct import all_finite, map_tensors, replace


class Player:
    """Adapts by playing or by reading.

    Args:
      adapter: of the trained learner; sizes: what its training was like.
      spaces: what it sees and does; horizon: steps after which an episode ends at the latest.
      seed: of the environment's first reset and of the policy's noise.
    """

    def __init__(
        self, adapter: RLAdapter[Any], sizes: Sizes, *, spaces: Spaces, horizon: int, seed: int
    ) -> None:
        self._adapter, self._sizes, self._spaces, self._horizon = adapter, sizes, spaces, horizon
        self._seed, self._noise = seed, Noise(torch.Generator().manual_seed(seed))

    def after_playing(
        self,
        env: Any,
        episodes: int | None,
        on_episode: Callable[[dict[str, Any]], object] | None = None,
    ) -> Policy:
        """The policy after it has played so many episodes. Raises: UserError if the environment
        doesn't fit.

        Args: on_episode: called with each as soon as it is over, see `Agent.adapt`.
        """
        check_spaces(env, self._spaces)
        per_update = self._shared_out(episodes)
        state, total = self._begin(per_update), [0.0, 0.0]
        self._warn_of_single(state, per_update)
        seed: int | None = self._seed
        for update, count in enumerate(per_update):
            played = []
            for row in range(count):
                episode, state = self._play(env, state, row, seed)
                played.append(episode)
                seed = None  # the environment's own numbers go on
                if on_episode is not None:
                    on_episode(recorded(episode, self._spaces[1]))
            latent = self._latent_of(state, count)
            state = self._update(state, played, latent, is_last=update == len(per_update) - 1)
            total[0] += sum(float(episode.reward.sum()) for episode in played)
            total[1] += sum(len(episode.reward) for episode in played)
        return self._policy(state, total[0] / max(total[1], 1))

    def after_given(self, rounds: Sequence[Sequence[Episode]]) -> Policy:
        """The policy after it has read these episodes, those of each round before an update; a
        learner whose updates are episodes takes them one by one. Raises: UserError if it can't
        learn from what others did."""
        if not rounds:
            return self._policy(self._adapter.begin(1, 1, None), 0.0)
        if self._sizes.unit == "episode":
            rounds = [[episode] for each in rounds for episode in each]
        counts = [len(each) for each in rounds]
        state = self._begin(counts)
        self._warn_of_single(state, counts)
        self._less_likely: list[Tensor] = []
        for update, each in enumerate(rounds):
            state = self._holding(state, [episode.latent for episode in each])
            read = list(each)
            for row, episode in enumerate(read):
                read[row], state = self._read(state, episode, row)
            latent = self._latent_of(state, len(each))
            state = self._update(state, read, latent, is_last=update == len(rounds) - 1)
        episodes = [episode for each in rounds for episode in each]
        self._warn_of_a_stranger(episodes)
        rewards = torch.cat([episode.reward for episode in episodes])
        return self._policy(state, float(rewards.mean()))

    def _holding(self, state: Any, latents: Sequence[Tensor | None]) -> Any:
        """The state with the latents of a round's episodes. Raises: UserError unless each of them
        has one that fits, or none where the policy draws none."""
        latent = self._adapter.episode_latent(state)
        given = [one for one in latents if one is not None]
        if latent is None:
            if given:
                raise UserError(
                    "an episode has a latent, but this policy holds none; expected obs, action, reward"
                )
            return state
        if len(given) < len(latents):
            raise UserError(
                "this policy holds a latent for each episode and learns by which one did well; an "
                "episode has none: expected its latent, policy.latent after "
                "policy.reset(explore=True), or an environment instead of episodes"
            )
        size = latent.value.shape[-1]
        if wrong := [one for one in given if one.shape != (size,)]:
            raise UserError(
                f"an episode's latent has the shape {tuple(wrong[0].shape)}; expected ({size},)"
            )
        if len(given) > 1 and all(torch.equal(one, given[0]) for one in given):
            warnings.warn(
                "all episodes have the same latent: nothing tells which one does well; expected a "
                "policy.reset(explore=True) before each",
                stacklevel=4,
            )
        return self._adapter.with_episode_latent(state, torch.stack(given)[None])

    def _warn_of_single(self, state: Any, per_update: Sequence[int]) -> None:
        if self._adapter.episode_latent(state) is not None and 1 in per_update:
            warnings.warn(
                "one episode before an update: this policy holds a latent for each, and learns about "
                "it by which did better; expected 2 or more",
                stacklevel=4,
            )

    def _warn_of_a_stranger(self, episodes: Sequence[Episode]) -> None:
        """Warns a learner by policy gradients of actions that its own policy wouldn't have drawn,
        and others of those that lie outside the action space."""
        space = self._spaces[1]
        if not self._less_likely and isinstance(space, spaces.Box):
            actions = torch.cat([episode.action for episode in episodes]).numpy()
            beyond = np.maximum(space.low - actions, actions - space.high)
            if beyond.max() > 1e-3:
                worst = actions.reshape(-1)[beyond.argmax()]
                warnings.warn(
                    f"the episodes' actions have {worst:.6g}, which lies outside {space}: are they in "
                    "other units? Expected actions as the policy gives them; in a training on an "
                    "environment of your own -1 and 1 stand for its bounds",
                    stacklevel=5,
                )
            return
        size = math.prod(space.shape) if isinstance(space, spaces.Box) else 1
        less_likely = float(torch.stack(self._less_likely).mean()) if self._less_likely else 0.0
        if less_likely > size:
            seen = (
                f"are less likely under the agent's policy than its own, by {less_likely:.3g} nats a "
                f"step where {size} and more means strange"
            )
        # The mode of a Gaussian is more likely than its draws, by half a nat a number.
        elif isinstance(space, spaces.Box) and less_likely < -0.4 * size:
            seen = "lie nearer to the most likely ones than the policy's draws do"
        else:
            return
        warnings.warn(
            f"the episodes' actions {seen}; expected what the policy itself drew, "
            "agent.unadapted(obs, deterministic=False): this learner learns little or wrong things "
            "from others",
            stacklevel=5,
        )

    def _shared_out(self, episodes: int | None) -> list[int]:
        """How many episodes come before each of the adapter's updates: as in training, or so many
        evenly, the first updates having one more."""
        updates, each = self._sizes.num_updates, self._sizes.episodes_per_task
        updates *= max(1, self._adapter.rounds_per_update)
        if episodes is None:
            return [each if self._sizes.unit == "update" else 1] * updates
        episodes = whole(episodes, "episodes")
        if self._sizes.unit == "episode":
            return [1] * episodes
        # A latent is judged beside those of other episodes.
        least = 1 if self._adapter.episode_latent(self._adapter.begin(1, 1, None)) is None else 2
        parts = min(max(updates, 1), max(1, episodes // least))
        return [episodes // parts + (part < episodes % parts) for part in range(parts)]

    def _begin(self, per_update: Sequence[int]) -> Any:
        most = max(per_update, default=1)
        return self._adapter.begin(1, most, self._noise if per_update else None)

    def _play(self, env: Any, state: Any, row: int, seed: int | None) -> tuple[Episode, Any]:
        observed, _ = env.reset(seed=seed)
        obs = [as_obs(observed, self._spaces[0])]
        actions, rewards, log_probs, ended = [], [], [], False
        terminated = False
        while not ended:
            rows = self._rows(state, obs[-1])
            act = self._adapter.act(state, rows, self._noise)
            world = min(row, len(rows) - 1)  # Without a latent one world stands for all.
            action = act.action[world]
            observed, reward, terminated, truncated, _ = env.step(
                as_env_action(action, self._spaces[1])
            )
            obs.append(as_obs(observed, self._spaces[0]))
            actions.append(action)
            rewards.append(number(reward, "the environment's reward"))
            log_probs.append(torch.zeros(()) if act.log_prob is None else act.log_prob[world])
            cut = not terminated and (truncated or len(actions) == self._horizon)
            ended = bool(terminated) or cut
            after = self._rows(state, obs[-1])
            step = one_step(after, rewards[-1], terminated=bool(terminated), truncated=cut)
            state = self._adapter.observe(state, rows, act, step)
        latent = self._adapter.episode_latent(state)
        episode = Episode(
            obs=torch.stack(obs),
            action=torch.stack(actions),
            reward=torch.tensor(rewards),
            log_prob=torch.stack(log_probs),
            terminated=bool(terminated),
            latent=None if latent is None else latent.value[0, row],
        )
        return episode, state

    def _read(self, state: Any, episode: Episode, row: int) -> tuple[Episode, Any]:
        """Takes in what happened, as if it had been the agent that acted; with the probabilities
        that it would have given to the actions."""
        last, log_probs = len(episode.reward) - 1, list[Tensor]()
        noise = Noise(torch.Generator().manual_seed(0))  # of its own: nothing else depends on it
        for t in range(last + 1):
            rows, after = (self._rows(state, episode.obs[i]) for i in (t, t + 1))
            world = min(row, len(rows) - 1)
            own: Act = self._adapter.act(state, rows, None)
            taken = episode.action[t].expand_as(own.action)
            likely = self._adapter.log_prob(state, rows, taken)
            log_probs.append(torch.zeros(()) if likely is None else likely[world])
            drawn = None if likely is None else self._adapter.act(state, rows, noise).log_prob
            if drawn is not None:
                self._less_likely.append(drawn[world] - log_probs[-1])
            is_end = t == last
            step = one_step(
                after,
                float(episode.reward[t]),
                terminated=is_end and episode.terminated,
                truncated=is_end and not episode.terminated,
            )
            state = self._adapter.observe(state, rows, replace(own, action=taken), step)
        return replace(episode, log_prob=torch.stack(log_probs)), state

    def _update(
        self,
        state: Any,
        episodes: Sequence[Episode],
        latent: EpisodeLatent | None,
        *,
        is_last: bool,
    ) -> Any:
        data = stacked(episodes, self._horizon)
        # After the last update nothing is explored any more: its latent is the most likely one.
        return self._adapter.update(
            state, replace(data, episode_latent=latent), None if is_last else self._noise
        )

    def _latent_of(self, state: Any, count: int) -> EpisodeLatent | None:
        latent = self._adapter.episode_latent(state)
        return None if latent is None else map_tensors(lambda leaf: leaf[:, :count], latent)

    def _rows(self, state: Any, obs: Tensor) -> Tensor:
        return in_each_world(self._adapter, state, obs)

    def _policy(self, state: Any, mean_reward: float) -> Policy:
        state = self._adapter.concluded(state)
        if not all_finite(x for x in pytree.tree_leaves(state) if isinstance(x, Tensor)):
            raise UserError(
                "adapting to these episodes led to numbers that aren't finite; expected episodes as "
                "the agent's own: actions that its policy might take, and rewards of the usual size"
            )
        return Policy(
            self._adapter,
            state,
            spaces=self._spaces,
            horizon=self._horizon,
            mean_reward=mean_reward,
            seed=self._seed,
        )


def recorded(episode: Episode, action_space: spaces.Box | spaces.Discrete) -> dict[str, Any]:
    """The episode as `adapt(episodes=...)` takes it, with the actions that the environment got."""
    found = {
        "obs": episode.obs.numpy(),
        "action": np.stack([as_env_action(action, action_space) for action in episode.action]),
        "reward": episode.reward.numpy(),
        "terminated": episode.terminated,
    }
    return found if episode.latent is None else {**found, "latent": episode.latent.numpy()}


def stacked(episodes: Sequence[Episode], horizon: int) -> Trajectories:
    """Episodes of one task as trajectories [1, E, horizon, ...]."""
    shape = (1, len(episodes), horizon)
    first = episodes[0]
    obs = first.obs.new_zeros(1, len(episodes), horizon + 1, *first.obs.shape[1:])
    action = first.action.new_zeros(*shape, *first.action.shape[1:])
    reward, log_prob = torch.zeros(shape), torch.zeros(shape)
    terminated, truncated, mask = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    for row, episode in enumerate(episodes):
        length = len(episode.reward)
        obs[0, row, : length + 1] = episode.obs
        action[0, row, :length], reward[0, row, :length] = episode.action, episode.reward
        log_prob[0, row, :length] = episode.log_prob
        mask[0, row, :length] = True
        (terminated if episode.terminated else truncated)[0, row, length - 1] = True
    return Trajectories(
        obs=obs,
        action=action,
        reward=reward,
        log_prob=log_prob,
        terminated=terminated,
        truncated=truncated,
        diverged=torch.zeros(shape, dtype=torch.bool),
        mask=mask,
    )
