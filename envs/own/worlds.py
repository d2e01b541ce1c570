"""Runs a user's environments in this process, in processes, or in another Python. All meet the
protocol `Worlds`."""

import dataclasses
import functools
import importlib.util
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import sysconfig
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector.utils import CloudpickleWrapper

from envs.own import world as worker
from envs.own.world import (
    EnvironmentFailed,
    LocalWorlds,
    TaskVariable,
    World,
    WorldError,
    make_world,
    packed,
)
from envs.sim.process import quiet_mujoco, tune_process
from metarl.errors import SettingError

_SECONDS_TO_END = 5.0
"""The time that a process has to close its environments; then it is killed."""


class Worlds(Protocol):
    """W copies of one environment, each under a task of its own. A world that has ended stands
    still until its reset."""

    num_worlds: int

    def describe(self) -> dict[str, Any]:
        """Describes one world: obs_low and obs_high [O], action_space (its kind, how it is shown,
        and what is in it), whole_numbers (the variables that go to such), has_controller (whether it
        has `scripted_action`), horizon (the
        environment's own) or None, control_step in seconds (`dt`, or CartPole's `tau`) or None,
        render_fps, pictures of control steps in a second (its metadata's), or None."""
        ...

    def made_by(self) -> str:
        """Tells what one world is made of, see `World.made_by`. No task is in force then."""
        ...

    def reset(
        self, worlds: Sequence[int], tasks: Sequence[Mapping[str, Any]], seeds: Sequence[int]
    ) -> np.ndarray:
        """Starts an episode in these worlds. Returns their observations, float32 [len(worlds),
        O]."""
        ...

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Takes actions of the environments' own space, [W, ...].

        Returns: obs [W, O] float32; reward [W]; [W, 3] bool, terminated, truncated and diverged;
        and the numbers of the infos by name, [W] each, 0 where a world hasn't one.
        """
        ...

    def scripted_actions(self) -> np.ndarray:
        """What each environment's own controller does now, [W, ...] of its own space."""
        ...

    def shared(self, task: Mapping[str, Any], other_task: Mapping[str, Any]) -> list[str]:
        """Gives the first world the one task and the last the other. Returns the variables whose
        value the first loses by that; a reset brings tasks into force again."""
        ...

    def not_finite(self) -> list[str | None]:
        """Says for each world which number of its present episode wasn't finite; None: all
        were."""
        ...

    def picture(self, world: int) -> np.ndarray:
        """[height, width, 3] uint8, as the environment itself draws it. Raises: RuntimeError saying
        why it can't be drawn."""
        ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Says how one world is made, wherever it runs."""

    source: str | Callable[..., Any]
    settings: Mapping[str, Any]
    variables: Mapping[str, TaskVariable]
    after_task: Callable[[Any], object] | None
    name: str

    def make_world(self) -> World:
        tune_process()
        quiet_mujoco()
        return make_world(self.source, self.settings, self.variables, self.after_task, self.name)

    def make_worlds(self, num_worlds: int) -> LocalWorlds:
        return LocalWorlds(self.make_world, num_worlds)


def worlds_in_processes(recipe: Recipe, sizes: Sequence[int]) -> "RemoteWorlds":
    """A process for each of `sizes`, with that many worlds."""
    connections, processes = [], []
    # CUDA can't go on in a fork of a process that has begun to use it, nor can much of macOS.
    forks = sys.platform == "linux" and not torch.cuda.is_initialized()
    begun: Any = multiprocessing.get_context("fork" if forks else "spawn")
    for size in sizes:
        ours, theirs = begun.Pipe()
        # Sources may be functions without a name that another process could import.
        make: Any = CloudpickleWrapper(functools.partial(recipe.make_worlds, size))  # type: ignore[type-var]
        process = begun.Process(target=worker.serve, args=(theirs, make), daemon=True)
        process.start()
        theirs.close()
        connections.append(ours)
        processes.append(process)

    def end() -> None:
        for process in processes:
            process.join(_SECONDS_TO_END)
            process.kill()

    return RemoteWorlds(connections, sizes, name=recipe.name, end=end)


def worlds_in_python(python: str | Path, recipe: Recipe, sizes: Sequence[int]) -> "RemoteWorlds":
    """Processes of another interpreter, that needs numpy and gymnasium and what the environment
    needs, and nothing of ours.

    Raises: ValueError if there is no such interpreter, or if the source has no name that it could
    import.
    """
    interpreter = Path(python).expanduser()
    if not interpreter.is_file():
        raise SettingError(f"python is {str(python)!r}; expected the path of a Python interpreter")
    asked = {
        "source": _importable(recipe.source),
        "settings": packed(dict(recipe.settings)),
        "variables": {name: _plain(variable) for name, variable in recipe.variables.items()},
        "after_task": _importable(recipe.after_task),
        "name": recipe.name,
        "path": [
            folder
            for what in (recipe.source, recipe.after_task)
            for folder in _folders(_importable(what))
        ],
    }
    connections, processes = [], []
    for size in sizes:
        ours, theirs = socket.socketpair()
        command = [str(interpreter), str(Path(worker.__file__)), str(theirs.fileno())]
        with ours, theirs:
            try:
                processes.append(subprocess.Popen(command, pass_fds=[theirs.fileno()]))
            except OSError as error:  # No program, or none for us: it is so for the first of them.
                raise SettingError(
                    f"python is {str(python)!r}, which can't be run ({error.strerror}); expected the "
                    "path of a Python interpreter"
                ) from error
            connections.append(Connection(ours.detach()))
        with suppress(OSError):  # It has ended already, which is told below.
            connections[-1].send_bytes(packed({**asked, "num_worlds": size}))

    def end() -> None:
        for process in processes:
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    worlds = RemoteWorlds(connections, sizes, name=recipe.name, end=end, can_draw=True)
    try:
        worlds.describe()
    except WorldsEnded as error:
        end()
        raise SettingError(
            f"python is {str(python)!r}, which ended at once (its message is above); "
            "expected Python 3.10 or newer with numpy and gymnasium"
        ) from error
    except Exception:
        worlds.close()
        raise
    return worlds


class WorldsEnded(RuntimeError):
    """A process that worlds were in has ended, and they with it."""


class RemoteWorlds:
    """Worlds behind connections, dealt over them in order; all work at the same time.

    Args:
      connections: to processes that `serve`.
      sizes: how many worlds are behind each.
      name: of the environment, in messages.
      end: waits for the processes, whose connections are closed.
      can_draw: whether what draws works there; in a fork of a process that has drawn before, it may
        end it.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        sizes: Sequence[int],
        *,
        name: str,
        end: Callable[[], object],
        can_draw: bool = False,
    ) -> None:
        self._connections = connections
        self._can_draw = can_draw
        self._name = name
        # Whoever forgets to close them leaves no processes behind.
        self._finalizer = weakref.finalize(self, _let_go, os.getpid(), list(connections), end)
        self._finalizer.atexit = False  # Processes end with this one by themselves.
        self.num_worlds = sum(sizes)
        self._starts = np.cumsum([0, *sizes])

    def describe(self) -> dict[str, Any]:
        return self._ask("describe", [()] * len(self._connections))[0]

    def made_by(self) -> str:
        return str(self._ask("made_by", [()] * len(self._connections))[0])

    def reset(
        self, worlds: Sequence[int], tasks: Sequence[Mapping[str, Any]], seeds: Sequence[int]
    ) -> np.ndarray:
        asked = []
        for first, end in zip(self._starts[:-1], self._starts[1:], strict=True):
            of_shard = [i for i, world in enumerate(worlds) if first <= world < end]
            columns = (
                [int(worlds[i] - first) for i in of_shard],
                *([c[i] for i in of_shard] for c in (tasks, seeds)),
            )
            asked.append(columns if of_shard else None)
        obs = [rows for rows in self._ask("reset", asked) if rows is not None]
        return np.concatenate(obs)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        answers = self._ask("step", [(part,) for part in np.split(actions, self._starts[1:-1])])
        obs, reward, ends, terms = zip(*answers, strict=True)
        names = dict.fromkeys(name for of_shard in terms for name in of_shard)
        nothing = [np.zeros(len(rows)) for rows in reward]
        joined = {
            name: np.concatenate(
                [part.get(name, zeros) for part, zeros in zip(terms, nothing, strict=True)]
            )
            for name in names
        }
        return np.concatenate(obs), np.concatenate(reward), np.concatenate(ends), joined

    def scripted_actions(self) -> np.ndarray:
        return np.concatenate(self._ask("scripted_actions", [()] * len(self._connections)))

    def shared(self, task: Mapping[str, Any], other_task: Mapping[str, Any]) -> list[str]:
        found = self._ask("shared", [(task, other_task)] * len(self._connections))
        return list(dict.fromkeys(name for of_shard in found for name in of_shard))

    def not_finite(self) -> list[str | None]:
        told = self._ask("not_finite", [()] * len(self._connections))
        return [number for of_shard in told for number in of_shard]

    def picture(self, world: int) -> np.ndarray:
        if not self._can_draw:
            raise RuntimeError(
                f"{self._name} can't be drawn: its worlds are in other processes; expected "
                "processes=False, or python="
            )
        shard = int(np.searchsorted(self._starts, world, side="right")) - 1
        arguments: list[Any] = [
            (world - int(start),) if i == shard else None
            for i, start in enumerate(self._starts[:-1])
        ]
        return next(p for p in self._ask("picture", arguments) if p is not None)

    def close(self) -> None:
        self._finalizer()

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Returns the answers of all processes; None where there was nothing to ask. Raises: what
        the first raised that failed."""
        try:
            for connection, given in zip(self._connections, arguments, strict=True):
                if given is not None:
                    self._send(connection, (method, given))
            answers = [
                None if given is None else self._receive(connection)
                for connection, given in zip(self._connections, arguments, strict=True)
            ]
        except BaseException:
            # After Ctrl-C, say, answers are still on their way: the next call would take them for
            # its own.
            self.close()
            raise
        for answer in answers:
            if answer is not None and answer[0] is not None:
                kind, message, trace = answer
                error = _raised_there(kind, message)
                error.add_note(f"In the other process:\n{trace}")
                raise error
        return [None if answer is None else answer[1] for answer in answers]

    def _send(self, connection: Connection, message: Any) -> None:
        try:
            connection.send_bytes(packed(message))
        except OSError as error:
            raise WorldsEnded(f"a process with worlds of {self._name} has ended") from error

    def _receive(self, connection: Connection) -> Any:
        try:
            return pickle.loads(connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise WorldsEnded(f"a process with worlds of {self._name} has ended") from error


def _let_go(owner: int, connections: Sequence[Connection], end: Callable[[], object]) -> None:
    if os.getpid() != owner:  # A fork throws its copy away; the worlds are still in use.
        return
    for connection in connections:
        try:
            connection.send_bytes(packed(("close", ())))
            connection.close()
        except OSError:  # Its process has ended already.
            pass
    end()


def _plain(variable: TaskVariable) -> dict[str, Any]:
    return {field.name: getattr(variable, field.name) for field in dataclasses.fields(variable)}


def _raised_there(kind: str, message: str) -> Exception:
    """What stands here for an exception of another process, by the name of its class."""
    ours: dict[str, type[Exception]] = {
        of.__name__: of for of in (WorldError, EnvironmentFailed, ValueError, RuntimeError)
    }
    if kind in ours:
        return ours[kind](message)
    told = f"{kind}: {message}"
    return (
        WorldError(told) if kind in ("ImportError", "ModuleNotFoundError") else RuntimeError(told)
    )


def _importable(what: Any) -> Any:
    """A word or None as it is, else (module, qualified name). Raises: ValueError if an import
    wouldn't find it there."""
    if what is None or isinstance(what, str):
        return what
    module, name = getattr(what, "__module__", None), getattr(what, "__qualname__", None)
    found = sys.modules.get(module) if module not in (None, "__main__") else None
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    if found is not what or name is None:
        raise SettingError(
            f"{what!r} can't be imported by another Python; expected an id, 'module:function', or "
            "a class or function "
            "at the top of a module that isn't the main program"
        )
    return module, name


def _folders(what: Any) -> list[str]:
    """Returns the folders that Python's path needs for the module of an importable to be found, if
    this Python knows them."""
    module = what[0] if isinstance(what, tuple) else (what or "").rpartition(":")[0]
    if module.endswith(".py"):
        return []  # It is found where it is.
    found = importlib.util.find_spec(module.split(".")[0]) if module else None
    if found is None:
        return []
    inside = list(found.submodule_search_locations or [])
    folder = Path(inside[0] if inside else found.origin or "").parent
    # What is installed here is of this Python's version.
    return [] if str(folder) in sysconfig.get_paths().values() else [str(folder)]
