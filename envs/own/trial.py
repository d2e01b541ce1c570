"""First episodes of a user's environment, played before any training: what they show would be
silent later.

They tell which numbers its infos have, and find worlds that share what a task sets, numbers that
aren't finite, environments that don't follow their seed, variables that change nothing, and whole
numbers that a prior would make fractions.
"""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from envs.own.spaces import Actions
from envs.own.world import EnvironmentFailed, TaskVariable, value_of
from envs.own.worlds import Worlds
from metarl.errors import SettingError

FIRST_STEPS = 50
"""Steps that are played again to compare."""
MOST_STEPS = 1000
"""Steps that an episode is played for at most."""

Tasks = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """What happened in one world: its first observation, and of each step observation, reward and
    ends as one row."""

    first: np.ndarray
    rows: list[np.ndarray]

    def first_difference(self, other: "Course") -> tuple[int, float, float] | None:
        """Returns the step (0: the reset) and the two numbers that differ first; None if all are
        the same as far as both go."""
        ours, theirs = [self.first, *self.rows], [other.first, *other.rows]
        for step, (one, another) in enumerate(zip(ours, theirs, strict=False)):
            different = (one != another) & ~(np.isnan(one) & np.isnan(another))
            if different.any():
                place = int(different.argmax())
                return step, float(one[place]), float(another[place])
        return None


_tried: dict[tuple[Hashable, ...], tuple[Any, list[str]]] = {}
"""Sources and the numbers that they tell. They are kept, so that no other has the id of one."""


def try_out_once(source: Any, key: tuple[Hashable, ...], *given: Any, **settings: Any) -> list[str]:
    """`try_out`, or what it gave before in this process: a command makes an environment several times,
    and the episodes of a slow one take minutes. Args: key: alike for the same environment of this source
    alone."""
    # An object that compares by its content, as those of a dataclass do, may have no hash.
    key = (source if _has_hash(source) else id(source), *key)
    if key not in _tried:
        _tried[key] = (source, try_out(*given, **settings))
    return list(_tried[key][1])


def _has_hash(source: Any) -> bool:
    try:
        hash(source)
    except TypeError:
        return False
    return True


def try_out(
    worlds: Worlds,
    variables: Mapping[str, TaskVariable],
    space: Actions,
    *,
    horizon: int,
    repeatable: bool,
    name: str,
) -> list[str]:
    """Plays in two worlds. Returns: the names of the numbers in the infos.

    Args:
      worlds: two.
      repeatable: the same seed and the same actions must give the same episode.
    Raises: ValueError if they don't, if both worlds have the task of one, if every episode breaks
    off at a number that isn't finite, or if a whole number would become a fraction. Warns: of
    variables that change nothing, and of episodes that break off.
    """
    lowest, highest = (
        {key: value_of(variable, which) for key, variable in variables.items()} for which in (0, -1)
    )
    actions = random_actions(space, min(horizon, MOST_STEPS))
    first_steps = actions[:FIRST_STEPS]
    _refuse_shared(worlds.shared(lowest, highest), variables, name)
    (before, _), terms = play(worlds, [lowest, lowest], [0, 1], actions)
    breaks = worlds.not_finite()
    # Beside a world with another task, which must not matter.
    (beside, _), _ = play(worlds, [lowest, highest], [0, 0], first_steps)
    breaks += worlds.not_finite()
    if any(breaks):
        middle = {key: _in_the_middle(variable) for key, variable in variables.items()}
        play(worlds, [middle, middle], [0, 0], first_steps)
        _tell_of_breaks([*breaks, *worlds.not_finite()], name)
    _try_fractions(worlds, variables, first_steps, name)
    _warn_of_strange_observations(before, worlds.describe(), name)
    if repeatable:
        # Beside another world, which would take numbers out of a stream that both share.
        again, _ = play(worlds, [lowest, lowest], [0, 0], first_steps)
        for course in again:
            _assert_repeated(before, course, name)
        if beside.first_difference(before) is not None:
            found = [
                key
                for key in variables
                if _reaches_the_other(worlds, before, lowest, key, highest[key], first_steps)
            ]
            _refuse_shared(found or list(variables), variables, name)
        _warn_of_idle(worlds, variables, [lowest, highest], actions, name)
    return list(terms)


def _warn_of_strange_observations(course: Course, form: Mapping[str, Any], name: str) -> None:
    """Gymnasium's own check is off: it would ask at every step."""
    low, high = form["obs_low"], form["obs_high"]
    for step, row in enumerate([course.first, *course.rows]):
        obs = row[: len(low)]
        outside = (obs < low) | (obs > high)
        if outside.any():
            place = int(outside.argmax())
            warnings.warn(
                f"{name} observes {obs[place]:g} at place {place} of its "
                f"{'first observation' if step == 0 else f'observation after step {step}'}, which isn't in its observation "
                f"space: expected {low[place]:g} to {high[place]:g}",
                stacklevel=4,
            )
            return


def _in_the_middle(variable: TaskVariable) -> Any:
    """The value of a task between the lowest and the highest."""
    if variable.how == "one_of":
        return value_of(variable, len(variable.values) // 2)
    lowest, highest = (np.array(value_of(variable, which)) for which in (0, -1))
    # Not half of the way: that is 0 of symmetric ranges, where much is special.
    return (lowest + 0.37 * (highest - lowest)).tolist()


def _tell_of_breaks(breaks: Sequence[str | None], name: str) -> None:
    """Raises: SettingError if all episodes broke off. Warns: if some did, of the first."""
    first = next(filter(None, breaks))
    if all(breaks):
        raise SettingError(
            f"{name} breaks off all episodes, at the lowest and the highest values of its tasks and "
            f"between them: {first}; expected finite numbers that single precision can hold"
        )
    warnings.warn(
        f"{name} breaks off {sum(map(bool, breaks))} of {len(breaks)} episodes: {first}; expected "
        "finite numbers that single precision can hold",
        stacklevel=4,
    )


def random_actions(space: Actions, num: int) -> np.ndarray:
    """Returns actions [num, ...] as environments get them; the same at each call."""
    rng = np.random.default_rng(0)
    if isinstance(space.space, gymnasium.spaces.Discrete):
        return space.given(rng.integers(int(space.space.n), size=num))
    return space.given(rng.uniform(-1, 1, (num, *space.space.shape)))


def play(
    worlds: Worlds, tasks: Sequence[Tasks], seeds: Sequence[int], actions: np.ndarray
) -> tuple[list[Course], dict[str, None]]:
    """One episode in each world, until all have ended or there are no more actions; and the names
    of the numbers told."""
    first = worlds.reset(range(worlds.num_worlds), tasks, seeds)
    courses = [Course(obs, []) for obs in first]
    names: dict[str, None] = {}
    for action in actions:
        obs, reward, ends, terms = worlds.step(np.stack([action] * worlds.num_worlds))
        names |= dict.fromkeys(terms)
        for world, course in enumerate(courses):
            course.rows.append(np.concatenate([obs[world], reward[world, None], ends[world]]))
        if ends.any(axis=1).all():
            break
    return courses, names


def _refuse_shared(shared: Sequence[str], variables: Mapping[str, TaskVariable], name: str) -> None:
    if shared:
        places = ", ".join(f"{key} ({', '.join(variables[key].paths)})" for key in shared)
        raise SettingError(
            f"{name}'s worlds share {places}: what one world's task sets, all have. Expected each "
            "to have its own, made anew in __init__, not one that the class, a module or an object "
            "given to all of them holds (settings= are copied)"
        )


def _reaches_the_other(
    worlds: Worlds, before: Course, task: Tasks, key: str, value: Any, actions: np.ndarray
) -> bool:
    (course, _), _ = play(worlds, [task, {**task, key: value}], [0, 0], actions)
    return course.first_difference(before) is not None


def _assert_repeated(before: Course, again: Course, name: str) -> None:
    difference = before.first_difference(again)
    if difference is None:
        return
    step, once, twice = difference
    where = "the reset" if step == 0 else f"step {step}"
    raise SettingError(
        f"{name} doesn't follow its seed: with the same seed and the same actions {where} gave "
        f"{once:g} and then {twice:g}. "
        "Expected all that is random to come from self.np_random, which reset(seed=seed) seeds, "
        "and nothing to be kept over "
        "resets, as NormalizeObservation and NormalizeReward do; repeatable=False takes it as it is"
    )


def _try_fractions(
    worlds: Worlds, variables: Mapping[str, TaskVariable], actions: np.ndarray, name: str
) -> None:
    """A variable between two whole numbers, of an attribute that is one, may be meant as a
    count."""
    for key in worlds.describe()["whole_numbers"]:
        variable = variables[key]
        if variable.how == "one_of":
            continue
        fraction = _in_the_middle(variable)
        tasks = {**{other: value_of(variables[other], 0) for other in variables}, key: fraction}
        try:
            play(worlds, [tasks] * 2, [0, 0], actions)
        except Exception as error:
            raise SettingError(
                f"{name} fails where {key} is {fraction} ({', '.join(variable.paths)} is a whole "
                f"number): {_problem(error)}; "
                f"expected one_of=[...] with whole numbers instead of {variable.how}"
            ) from error


def _warn_of_idle(
    worlds: Worlds,
    variables: Mapping[str, TaskVariable],
    extremes: Sequence[Tasks],
    actions: np.ndarray,
    name: str,
) -> None:
    """Warns of each variable whose two extremes give the same episode, whether the others are at
    their lowest or highest."""
    idle = [key for key, variable in variables.items() if variable.values[0] != variable.values[-1]]
    for here, there in (extremes, reversed(extremes)):
        if not idle:
            return
        # In pairs, because there are two worlds; most show in the first steps.
        (usual, _), _ = play(worlds, [here, here], [0, 0], actions)
        idle = [key for key in idle if not _changes(worlds, usual, here, key, there[key], actions)]
    for key in idle:
        paths = ", ".join(variables[key].paths)
        warnings.warn(
            f"{name}: {key} ({paths}) changes nothing: its lowest and its highest value gave the "
            f"same {len(usual.rows)} steps of "
            "random actions. Does the environment read it? What derives from it is set by "
            "after_task=",
            stacklevel=4,
        )


def _changes(
    worlds: Worlds, usual: Course, task: Tasks, key: str, value: Any, actions: np.ndarray
) -> bool:
    changed = {**task, key: value}
    for count in (min(FIRST_STEPS, len(actions)), len(actions)):
        (course, _), _ = play(worlds, [changed, changed], [0, 0], actions[:count])
        if course.first_difference(usual) is not None:
            return True
    return False


def _problem(error: Exception) -> str:
    """The first line of its message, without what was expected there; of an error in the user's
    code, that one's."""
    told = error.__cause__ if isinstance(error, EnvironmentFailed) and error.__cause__ else error
    return str(told).partition("\n")[0].partition("; expected")[0].rstrip(".:")
