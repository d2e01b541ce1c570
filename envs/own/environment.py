"""Worlds of a user's Gymnasium environment, each under a task of its own, as a
`metarl.rl.types.BatchedEnv`."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import gymnasium
import numpy as np
import torch
from gymnasium.utils import EzPickle
from torch import Tensor

from envs.episodes import Episodes, check_horizon
from envs.machine import check_device
from envs.numpy_worlds import task_dicts
from envs.own.best_returns import BestReturn, BestReturns
from envs.own.identity import identity, title
from envs.own.pictures import Pictures, fitted
from envs.own.spaces import Actions
from envs.own.tasks import (
    TaskVariable,
    check_variables,
    definition,
    expect,
    listed,
    prior,
    whole_number,
)
from envs.own.trial import try_out_once
from envs.own.world import LocalWorlds
from envs.own.worlds import Recipe, Worlds, worlds_in_processes, worlds_in_python
from envs.tasks import FewTasks, ListedTasks, TaskPrior
from metarl.errors import SettingError
from metarl.rl.spec import EnvSpec
from metarl.rl.types import BatchedEnv, References, Step

Source = str | Callable[..., gymnasium.Env[Any, Any]]


def own_environment(
    source: Source,
    num_worlds: SupportsIndex,
    *,
    tasks: Mapping[str, TaskVariable],
    horizon: SupportsIndex | None = None,
    num_train_tasks: SupportsIndex | None = None,
    num_test_tasks: SupportsIndex | None = None,
    split_seed: SupportsIndex | None = None,
    train_tasks: Sequence[Mapping[str, Any]] | None = None,
    test_tasks: Sequence[Mapping[str, Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    after_task: Callable[[Any], object] | None = None,
    terms: Sequence[str] = (),
    best_return: BestReturn | None = None,
    repeatable: bool = True,
    name: str | None = None,
    processes: bool | SupportsIndex = False,
    python: str | Path | None = None,
    num_threads: int | None = None,  # no effect: a Gymnasium environment steps in one thread
    device: torch.device | str = "cpu",
) -> BatchedEnv[Any]:
    """W = num_worlds copies of a Gymnasium environment, each under a task of its own.

    Observations must be a Box with one axis or a Dict that flattens to one, and a seeded reset must
    make the episode repeatable. Actions are a learner's: in [−1, 1] for a Box with bounds, which −1
    and 1 stand for; a number of a choice for Discrete, and for the combinations of a MultiDiscrete.
    Beyond the bounds an action is clipped. A world whose observation or reward isn't a finite
    float32, or whose MuJoCo physics blew up, is diverged, as `MujocoEnv` has it.

    Two worlds more play some episodes first, which tell what can be known before a training, once in
    a process for each environment: see envs/own/trial.py.

    Args:
      source: an id for gymnasium.make, an environment's class, any function that makes one,
        `module:function`, or `path/to/file.py:function`.
      tasks: the variables that differ between tasks, by name; in every episode they are set before
        the reset.
      horizon: control steps; None: the id's own max_episode_steps. It replaces the id's TimeLimit.
      num_train_tasks: size of the fixed training set; None draws a new task each time.
      num_test_tasks: how many held-out tasks an evaluation takes by default; None: 40.
      split_seed: of the training and the test tasks; None: 0. It and the two numbers can't be given
        where all variables are `one_of`: every combination is then a task of both.
      train_tasks, test_tasks: the tasks one by one, each a dict of the variables, instead of the
        numbers and the seed; num_test_tasks may take the first few.
      settings: keyword arguments of the environment. Each world gets a copy of its own, or, where
        one can't be copied, all get the same.
      after_task: called with the unwrapped environment when a task is set, before the reset, to set
        what derives from it.
      terms: numbers of the info that are handed on, besides those that the first episodes show; for
        instance "success", where only an agent that has learnt something comes to see it.
      best_return: what who knows the task can earn in an episode, in expectation: a number, or a
        function of a task, a dict of the variables. Evaluations then have it as `oracle`, and
        regrets and normalised scores; the problem stays the same.
      repeatable: False: the environment needn't follow its seed, and a run that is resumed goes on
        with other numbers.
      name: in results and videos; None: the id or the class's name.
      processes: step every world in a process of its own; a number: in so many processes.
      python: path of another interpreter, where the worlds run; it needs numpy, gymnasium and the
        environment, not metarl.
    Raises: ValueError naming what doesn't fit and what was expected.
    Warns: of a variable whose two extremes give the same episode.
    """
    count = whole_number("num_worlds", num_worlds)
    if count < 1:
        raise SettingError(f"num_worlds is {count}; expected at least 1")
    steps = _whole_or_none("horizon", horizon)
    if steps is not None:
        check_horizon(steps)
    _check_source(source, settings, after_task)
    _check_words(terms, name, python)
    check_device(device)
    expect(isinstance(repeatable, bool), "repeatable", repeatable, "True or False")
    check_variables(tasks)
    sizes = _sizes(count, processes)
    num_train = _whole_or_none("num_train_tasks", num_train_tasks)
    num_test = _whole_or_none("num_test_tasks", num_test_tasks)
    seed = _whole_or_none("split_seed", split_seed)
    distribution: TaskPrior[Any] | FewTasks[Any] | ListedTasks[Any]
    if train_tasks is None and test_tasks is None:
        distribution = prior(tasks, num_train=num_train, num_test=num_test, seed=seed)
    else:
        _check_lists(train_tasks, test_tasks, num_train, seed)
        assert train_tasks is not None and test_tasks is not None
        distribution = listed(tasks, train=train_tasks, test=test_tasks, num_test=num_test)
    shown = name or title(source).split(".")[-1].strip("<>")
    known = None if best_return is None else BestReturns(best_return, dict(tasks), shown)
    if known is not None:
        known(distribution.test_tasks(), 1)  # a mistake shows before any world is made
    recipe = Recipe(
        source=source,
        settings=dict(settings or {}),
        variables=dict(tasks),
        after_task=after_task,
        name=shown,
    )
    # Not in processes yet, where mistakes would show less well.
    trial: Worlds = (
        recipe.make_worlds(2) if python is None else worlds_in_python(python, recipe, [2])
    )
    try:
        form, made_by = trial.describe(), trial.made_by()
        steps = form["horizon"] if steps is None else steps
        if steps is None:
            raise SettingError(
                f"horizon is None and {title(source)} has no limit of its own; expected a number "
                "of control steps"
            )
        actions = Actions(form["action_space"])
        spec = EnvSpec(
            name=shown,
            family=shown,
            variant="default",
            horizon=steps,
            definition={
                "source": identity(title(source) if isinstance(source, str) else source),
                "settings": identity(recipe.settings),
                "tasks": {key: definition(variable) for key, variable in tasks.items()},
                "prior": distribution.bounds,
                "split": distribution.split_definition(),
                # What was so before there was a choice isn't said, so that older results keep their
                # spec hash.
                **({"actions": actions.definition} if actions.definition else {}),
                **({"after_task": identity(after_task)} if after_task is not None else {}),
            },
            made_by=made_by,
        )
        shown_terms = try_out_once(
            source,
            (spec.spec_hash, spec.made_by, str(python), repeatable),
            *(trial, tasks, actions),
            horizon=steps,
            repeatable=repeatable,
            name=shown,
        )
    finally:
        trial.close()
    if python is not None:
        worlds: Worlds = worlds_in_python(python, recipe, sizes)
    elif processes is False:
        worlds = recipe.make_worlds(count)
    else:
        worlds = worlds_in_processes(recipe, sizes)
    named = [terms] if isinstance(terms, str) else terms
    return OwnEnv(
        spec,
        distribution,
        worlds,
        list(dict.fromkeys([*shown_terms, *named])),
        known_returns=known,
        device=device,
    )


class OwnEnv(BatchedEnv[Any]):
    """Worlds of a user's environment; `own_environment` makes them."""

    num_uniforms = 1  # from which the episode's seed comes

    def __init__(
        self,
        spec: EnvSpec,
        tasks: Any,
        worlds: Worlds,
        terms: Sequence[str],
        *,
        known_returns: BestReturns | None = None,
        device: torch.device | str,
    ) -> None:
        self.spec = spec
        self._known: dict[str, Any] = (
            {} if known_returns is None else {"known_returns": known_returns}
        )
        self.prior = tasks
        self.num_worlds = worlds.num_worlds
        self.device = torch.device(device)
        self._worlds = worlds
        self._terms = list(terms)
        form = worlds.describe()
        self.observation_space: gymnasium.spaces.Box = gymnasium.spaces.Box(
            form["obs_low"], form["obs_high"], dtype=np.float32
        )
        self._actions = Actions(form["action_space"])
        self.action_space = self._actions.space
        self._has_controller: bool = form["has_controller"]
        self._episodes = Episodes(self, self.device)
        self._pictures = Pictures()
        self._told_of_breaks = False
        self.control_step: float | None = form["control_step"]
        self.render_fps: float | None = form["render_fps"]
        self._present = torch.zeros(
            self.num_worlds, *self.observation_space.shape, device=self.device
        )

    @property
    def references(self) -> References[Any]:
        """Standing still: no action, or what is nearest to it in the action space, which isn't there
        where actions are choices; the environment's own controller, if it has one; and what the
        user says of the best returns."""
        still = self._actions.standing_still()
        action = None if still is None else self._tensor(still).expand(self.num_worlds, -1)
        return References(
            stand_still=None if action is None else action.clone,
            scripted=self._scripted_action if self._has_controller else None,
            **self._known,
        )

    def _scripted_action(self) -> Tensor:
        return torch.from_numpy(self._actions.asked(self._worlds.scripted_actions())).to(
            self.device
        )

    def set_tasks(self, tasks: Any) -> None:
        self._episodes.set_tasks(tasks)

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        chosen = self._episodes.begin(uniform, worlds).nonzero().flatten().tolist()
        seeds = (uniform[:, 0] * 2**31).long().tolist()
        tasks = task_dicts(self._episodes.tasks)
        if chosen:
            first = self._worlds.reset(
                chosen, [tasks[i] for i in chosen], [seeds[i] for i in chosen]
            )
            self._present = self._present.clone()
            self._present[chosen] = self._tensor(first)
        return self._present.clone()

    def step(self, action: Tensor) -> Step:
        given = self._actions.given(self._episodes.checked(action).cpu().numpy())
        obs, reward, ends, terms = self._worlds.step(given)
        self._present = self._tensor(obs)
        terminated, truncated, diverged = self._tensor(ends).unbind(1)
        if ends[:, 2].any() and not self._told_of_breaks:
            self._warn_of_breaks()
        if "success" in terms and "success" not in self._terms:
            self._warn_of_late_success()
        nothing = np.zeros(self.num_worlds)
        numbers = self._tensor(np.array([terms.get(name, nothing) for name in self._terms])).float()
        return Step(
            next_obs=self._present.clone(),
            reward=self._tensor(reward).float(),
            terminated=terminated,
            truncated=(truncated | self._episodes.advance()) & ~terminated,
            diverged=diverged,
            terms=dict(zip(self._terms, numbers, strict=True)),
        )

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """[height, width, 3] uint8, see envs/own/pictures.py. Raises: RuntimeError saying why it
        can't be drawn."""
        if not isinstance(self._worlds, LocalWorlds):
            return fitted(self._worlds.picture(world), width, height)
        return self._pictures.picture(self._worlds.envs[world].env, width=width, height=height)

    def close(self) -> None:
        self._pictures.close()
        self._worlds.close()

    def _warn_of_breaks(self) -> None:
        """Says once of which number an episode broke off; where MuJoCo's physics blew up, reports
        say so."""
        numbers = self._worlds.not_finite()
        world = next((world for world, number in enumerate(numbers) if number), None)
        if world is None:
            return
        self._told_of_breaks = True
        task = self.prior.describe(self._episodes.tasks)[world]
        warnings.warn(
            f"{self.spec.name} breaks off an episode: {numbers[world]}, under the task {task}; it "
            "counts with the rewards before, which may be better than a whole one's",
            stacklevel=3,
        )

    def _warn_of_late_success(self) -> None:
        warnings.warn(
            f"{self.spec.name} told of success only now, in an episode unlike the first ones; "
            "terms=['success'] says that it will, "
            "and then success rates are shown",
            stacklevel=3,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Raises: TypeError where copy.deepcopy or pickle would give worlds back at their beginning
        without a word."""
        if not isinstance(self._worlds, LocalWorlds):
            raise TypeError(
                f"{self.spec.name} can't be copied or pickled: its worlds are in other processes"
            )
        for world in self._worlds.envs:
            if isinstance(world.unwrapped, EzPickle):
                raise TypeError(
                    f"{self.spec.name} can't be copied or pickled: "
                    f"{type(world.unwrapped).__name__} is a "
                    "gymnasium.utils.EzPickle, of which a copy is made anew and has no state"
                )
        return vars(self)

    def _tensor(self, array: np.ndarray) -> Tensor:
        """The array, which nobody else has, as a tensor."""
        return torch.from_numpy(array).to(self.device)


def _check_source(source: object, settings: object, after_task: object) -> None:
    expect(
        isinstance(source, str) or callable(source),
        "source",
        source,
        "an id for gymnasium.make, or something to call that makes one",
    )
    expect(
        settings is None
        or (isinstance(settings, Mapping) and all(isinstance(key, str) for key in settings)),
        "settings",
        settings,
        "a dict of keyword arguments by name, or None",
    )
    expect(
        after_task is None or callable(after_task),
        "after_task",
        after_task,
        "a function of the unwrapped environment, or None",
    )


def _check_lists(train: object, test: object, num_train: int | None, seed: int | None) -> None:
    for name, value in (("train_tasks", train), ("test_tasks", test)):
        if value is None:
            raise SettingError(f"{name} is None; expected both lists of tasks or neither")
    for name, value in (("num_train_tasks", num_train), ("split_seed", seed)):
        if value is not None:
            raise SettingError(f"{name} is {value} beside train_tasks; expected None")


def _check_words(terms: object, name: object, python: object) -> None:
    expect(
        isinstance(terms, Sequence) and all(isinstance(term, str) for term in terms),
        "terms",
        terms,
        "a list of names",
    )
    expect(name is None or isinstance(name, str), "name", name, "a word, or None")
    expect(
        python is None or isinstance(python, str | Path),
        "python",
        python,
        "the path of a Python interpreter, or None",
    )


def _whole_or_none(name: str, value: Any) -> int | None:
    return None if value is None else whole_number(name, value, "a whole number, or None")


def _sizes(num_worlds: int, processes: Any) -> list[int]:
    """How many worlds each process has."""
    expected = f"True, False, or at most one for each of {num_worlds} worlds"
    if isinstance(processes, bool):
        num_processes = num_worlds if processes else 1
    else:
        num_processes = whole_number("processes", processes, expected)
    expect(1 <= num_processes <= num_worlds, "processes", processes, expected)
    return [len(part) for part in np.array_split(np.arange(num_worlds), num_processes)]
