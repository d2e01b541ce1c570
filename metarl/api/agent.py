"""A trained agent: evaluated and filmed as the commands do, or let loose on an environment of one's
own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import torch

from metarl.api.given import Episode, given_episode, whole
from metarl.api.playing import Player
from metarl.api.policy import Policy
from metarl.api.results import Evaluation, Videos
from metarl.cli import build, checkpoints
from metarl.cli.commands import evaluate as evaluate_command
from metarl.cli.commands import render as render_command
from metarl.cli.session import as_words, session, texts
from metarl.errors import UserError
from metarl.run.seeding import Generators
from metarl.struct import replace
from metarl.surroundings import undisturbed
from metarl.threads import on_one_thread

Recorded = Mapping[str, Any]
"""An episode as a dict: obs, action, reward and perhaps terminated and latent."""


class Agent:
    """What a training has learned; `metarl.load` makes it.

    Args:
      loaded: the checkpoint; checkpoint: the word for it on the command line; config_dir: configs
      of the user's own.
    """

    def __init__(
        self, loaded: checkpoints.Loaded, checkpoint: str, config_dir: str | Path | None = None
    ) -> None:
        # Runs go on and programs change their folder: it stays the agent that was loaded.
        self._loaded = replace(loaded, path=loaded.path.absolute())
        self._checkpoint, self._config_dir = checkpoint, config_dir
        self._sizes = build.sizes(loaded.config)
        with checkpoints.world_of(loaded) as env:
            self.spec = env.spec
            self.observation_space, self.action_space = env.observation_space, env.action_space
        learner = checkpoints.trained_learner(loaded, Generators(0), torch.device("cpu"))
        self._adapter = learner.adapter()
        self._adapted: Policy | None = None

    def evaluate(self, *words: str, quiet: bool = False, **settings: Any) -> Evaluation:
        """Adapts to held-out tasks, as `metarl-evaluate` does, with the same numbers.

            agent.evaluate(num_tasks=40).table()

        Args: words, settings: those of the command, see `metarl-evaluate --help`. With `output` the
        result is written there, too. quiet: nothing is printed.
        """
        with self._session("evaluate", words, settings, quiet) as config:
            is_kept, kept = config.output is not None, None
            loaded, result = evaluate_command.evaluated(
                config, is_kept=is_kept, loaded=self._loaded
            )
            if is_kept:
                kept = evaluate_command.keep(config, loaded, result)
        return Evaluation(result, kept)

    def render(self, *words: str, quiet: bool = False, **settings: Any) -> Videos:
        """Films held-out tasks before and after adaptation, as `metarl-render` does.

        Args: words, settings: those of the command, see `metarl-render --help`. quiet: nothing is
        printed.
        """
        with self._session("render", words, settings, quiet) as config:
            return Videos(render_command.rendered(config, self._loaded))

    @undisturbed()
    @on_one_thread  # one task's steps are small
    def adapt(
        self,
        env: Any = None,
        episodes: SupportsIndex | Sequence[Recorded] | Sequence[Sequence[Recorded]] | None = None,
        *,
        seed: SupportsIndex = 0,
        on_episode: Callable[[dict[str, Any]], object] | None = None,
    ) -> Policy:
        """Adapts to one task: that of an environment, in which episodes are played, or that of
        episodes that are there already.

            policy = agent.adapt(env, episodes=2)
            action = policy(obs)

        Args:
          env: any Gymnasium environment with the spaces of the training. An episode ends where the
            environment ends it, at the latest after as many steps as in training.
          episodes: how many are played; None: as many as in training. A learner by gradients shares
            them out among the updates of its training; one with a memory plays them as a trial.
            Or the episodes themselves: dicts with `obs` [T + 1, ...], `action` [T, ...],
            `reward` [T] and perhaps `terminated`, true or false, or [T] with a true at most for the
            last step; else a time limit ended the episode; and `latent` [L], where the policy holds
            one for each episode (`Policy.latent`). A learner by gradients takes one update
            from them all, or from each list of a list of lists: the first of what the unadapted
            policy did, the second of what it did after that update, and so on.
          seed: of the first reset and of the policy's noise.
          on_episode: called with each episode as soon as it was played, a dict as those of
            `episodes`: what was recorded isn't lost if a later one fails.
        Returns: the adapted policy, also `agent.adapted`.
        Raises: UserError if the spaces don't fit, or episodes can't be learned from.
        """
        given: Sequence[Recorded] | Sequence[Sequence[Recorded]] | None = None
        number: int | None = None
        if isinstance(episodes, Mapping):
            raise UserError(
                "episodes is a dict; expected a number, or a list of dicts, one for each episode"
            )
        least = 1 if self._sizes.unit == "update" else 0
        if isinstance(episodes, Sequence) and not isinstance(episodes, str):
            given = episodes
            if len(given) < least:
                raise UserError(
                    "episodes is empty: there is nothing to learn from; expected 1 or more "
                    "(agent.unadapted is the policy before any)"
                )
        elif episodes is not None:
            number = whole(episodes, "episodes", least=least)
        player = Player(
            self._adapter,
            self._sizes,
            spaces=(self.observation_space, self.action_space),
            horizon=self.spec.horizon,
            seed=whole(seed, "seed"),
        )
        if given is not None:
            if env is not None:
                raise UserError("adapt got env and episodes that are there already; expected one")
            self._adapted = player.after_given(self._rounds(given))
        elif env is None:
            raise UserError("adapt got neither an environment nor episodes")
        else:
            self._adapted = player.after_playing(env, number, on_episode)
        return self._adapted

    @property
    def unadapted(self) -> Policy:
        """The policy before it has seen anything of a task."""
        return Player(
            self._adapter,
            self._sizes,
            spaces=(self.observation_space, self.action_space),
            horizon=self.spec.horizon,
            seed=0,
        ).after_given([])

    @property
    def adapted(self) -> Policy:
        """What the last `adapt` returned. Raises: UserError before the first."""
        if self._adapted is None:
            raise UserError("the agent hasn't adapted yet; call agent.adapt(env) first")
        return self._adapted

    def _rounds(self, given: Sequence[Any]) -> list[list[Episode]]:
        """The user's episodes, those of each update in a list."""
        if not given:
            return []
        are_lists = [isinstance(one, Sequence) and not isinstance(one, str) for one in given]
        if not any(are_lists):
            return [[self._given(episode, f"episodes[{i}]") for i, episode in enumerate(given)]]
        if not all(are_lists):
            raise UserError(
                "episodes has lists beside single episodes; expected a list of episodes, or a list "
                "of lists, one for each update"
            )
        if [] in given:
            raise UserError(
                f"episodes[{list(given).index([])}] is empty; expected one episode or more for each "
                "update"
            )
        return [
            [self._given(episode, f"episodes[{k}][{i}]") for i, episode in enumerate(each)]
            for k, each in enumerate(given)
        ]

    def _given(self, episode: Recorded, name: str) -> Episode:
        return given_episode(
            episode, name, self.observation_space, self.action_space, self.spec.horizon
        )

    def _session(
        self, command: str, words: tuple[str, ...], settings: Mapping[str, Any], quiet: bool
    ) -> Any:
        given = [*texts(words), *as_words(settings)]
        if not self._loaded.with_env:
            raise UserError(
                f"{command}: this agent was loaded with with_env=False, so it has no environment; "
                "expected metarl.load without that"
            )
        if any(word.startswith("checkpoint=") for word in given):
            raise UserError("checkpoint: this agent's is meant; expected metarl.load of the other")
        own = as_words({"checkpoint": self._checkpoint})
        return session(command, [*own, *given], self._config_dir, quiet=quiet)

    def __repr__(self) -> str:
        iteration = self._loaded.content["iteration"]
        done = f"iteration {iteration} of {self._loaded.config.iterations}"
        return f"Agent({self._checkpoint!r}, env={self.spec.name!r}, {done})"
