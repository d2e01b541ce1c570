"""A command called from Python instead of a console: the same words, checks and configuration, and
errors as exceptions."""

import io
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, open_dict

from envs.own.world import WorldError
from metarl.cli.allowed import ALLOWED
from metarl.cli.configs import CONFIGS, search_path
from metarl.cli.kinds import OneOfOrOwn
from metarl.cli.main import users_folder
from metarl.cli.overrides import check_overrides
from metarl.cli.strangers import cause
from metarl.cli.words import hydra_text
from metarl.errors import SettingError, UserError, show_as_a_line
from metarl.surroundings import undisturbed

Settings = Mapping[str, Any]


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def session(
    command: str,
    words: Sequence[str],
    config_dir: str | Path | None = None,
    *,
    quiet: bool = False,
) -> Iterator[DictConfig]:
    """The configuration that the command composes from these words. While it is open, all else of
    metarl/cli takes this process for that command; what it prints and records as the command to
    repeat is `metarl-<command> <words>`. Another thread waits for its end, and says so; a program of
    Hydra's own goes on as it was.

    Args: quiet: nothing is printed; a run's folder has it all the same, in run.log.
    Raises: UserError or SettingError as the command would print them.
    """
    if not isinstance(quiet, bool):
        raise UserError(f"quiet={quiet!r}: expected True or False")
    with _turn(command), undisturbed(), _muted() if quiet else nullcontext():
        try:
            yield from _session(command, words, config_dir)
        except SettingError as error:
            show_as_a_line(error)
            raise
        except WorldError as error:  # whose class must not know of metarl
            raise UserError(str(error)) from error


@contextmanager
def _muted() -> Iterator[None]:
    """What this thread prints goes nowhere; the program's other threads go on printing."""
    with (
        redirect_stdout(_Muted(sys.stdout, threading.get_ident())),
        redirect_stderr(_Muted(sys.stderr, threading.get_ident())),
    ):
        yield


class _Muted(io.TextIOBase):
    def __init__(self, stream: Any, thread: int) -> None:
        self._stream, self._thread = stream, thread

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread and self._stream is not None:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if threading.get_ident() != self._thread and self._stream is not None:
            self._stream.flush()


@contextmanager
def _turn(command: str) -> Iterator[None]:
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        thread = threading.current_thread().name
        print(
            f"{command} in {thread} waits: another thread is in a training or a command of metarl's",
            file=sys.stderr,
        )
        _ONE_AT_A_TIME.acquire()
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


def _session(
    command: str, words: Sequence[str], config_dir: str | Path | None
) -> Iterator[DictConfig]:
    folders = [CONFIGS, *users_folder(None if config_dir is None else str(config_dir))]
    before, typed = HydraConfig.instance().cfg, sys.argv
    theirs = GlobalHydra.instance().hydra
    flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
    try:
        GlobalHydra.instance().clear()
        words = check_overrides(command, list(words), folders)
        with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
            config = compose(command, [*words, *search_path(folders)], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        sys.argv = [f"metarl-{command}", *flags, *words]
        yield config
    except InstantiationException as error:
        raise cause(error) from None
    finally:
        GlobalHydra.instance().hydra = theirs
        HydraConfig.instance().cfg = before
        sys.argv = typed


def texts(words: Sequence[Any]) -> list[str]:
    """Words of the command line that were given without a name. Raises: UserError if one is none,
    for instance the 3 of evaluate(3)."""
    for word in words:
        if not isinstance(word, str):
            raise UserError(
                f"{word!r} is no word of the command line; expected settings by name, such as "
                "seed=1, or words such as 'seed=1'"
            )
    return list(words)


def as_words(settings: Settings, prefix: str = "") -> list[str]:
    """Python values as words of the command line: `{"seed": 1, "algo": {"inner_lr": 0.1}}` ->
    `seed=1`, `algo.inner_lr=0.1`. What may be a word or something of the user's own is one word,
    `algo.inner_rule={_target_:my_rule.Rule,lr:0.1}`.

    Raises: UserError naming a value that no word can say.
    """
    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and not isinstance(ALLOWED.get(key), OneOfOrOwn):
            words += as_words(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={_text(value, f'{prefix}{key}')}")
    return words


def _text(value: Any, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return _text(value.item(), key)  # a number of numpy or torch, of which some are floats, too
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return hydra_text(str(value))
    if isinstance(value, list | tuple | ListConfig) or getattr(value, "ndim", None) == 1:
        return f"[{','.join(_text(entry, key) for entry in value)}]"
    if isinstance(value, Mapping):
        entries = (f"{name}:{_text(entry, f'{key}.{name}')}" for name, entry in value.items())
        return f"{{{','.join(entries)}}}"
    if isinstance(value, torch.device):
        return str(value)
    raise UserError(
        f"{key} is a {type(value).__name__}; expected a number, a string, true or false, None, a "
        "list, or a dict of settings"
    )
