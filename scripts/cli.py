"""What all commands share: composing the configuration with Hydra, the help text, and short messages for user mistakes.

A command is a function of the composed configuration; `main("train", run)` runs it. Three things differ from plain Hydra:
mistakes on the command line are found before anything starts (overrides.py), a mistake ends with a line or two on stderr
and exit code 2 while a bug keeps its traceback, and Hydra writes no folder of its own.
"""

import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import InstantiationException
from omegaconf import DictConfig

import envs
import metarl
from envs.process import tune_process
from metarl._scripts.configs import CONFIGS
from metarl._scripts.helptext import help_text
from metarl._scripts.overrides import check_overrides
from metarl.errors import UserError

_OUR_CODE = tuple(
    str(folder) + os.sep
    for folder in (Path(__file__).resolve().parent, *map(Path, metarl.__path__), *map(Path, envs.__path__))
)

_QUIET_HYDRA = (
    "hydra.run.dir=.",
    "hydra.sweep.dir=runs/sweeps/${now:%Y-%m-%d_%H-%M-%S}",  # Holds multirun.yaml, the record of the sweep.
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/hydra_logging=none",
    "hydra/job_logging=stdout",
)

_USERS_OS_ERRORS = (
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
)


def main(config_name: str, run: Callable[[DictConfig], Any], *, configs: Path = CONFIGS) -> None:
    """Runs a command: composes `config_name` with the overrides of `sys.argv` and calls `run` with the result.

    Hydra's own flags work: `-m` for a sweep, `--cfg job` to print the configuration, `--info`, `--config-dir`.
    Ends the process with 2 after a user's mistake (UserError; a ValueError that our own code raises; a file that can't be
    read or written), 130 after Ctrl-C. Everything else is a bug and shows its traceback; HYDRA_FULL_ERROR=1 shows it always.
    """
    try:
        flags, overrides = _split(sys.argv[1:])
        arguments = _parse_flags(flags, overrides)
        folders = [configs] + ([Path(arguments.config_dir)] if arguments.config_dir else [])
        config_name = arguments.config_name or config_name
        if arguments.help:
            print(help_text(config_name, sys.modules[run.__module__].__doc__ or "", overrides, folders))
            return
        if not (arguments.hydra_help or arguments.shell_completion):
            shows_only = bool(arguments.cfg or arguments.info)
            check_overrides(config_name, overrides, folders, sweep=arguments.multirun, required=not shows_only)
    except UserError as error:
        _stop(error)
    command = hydra.main(version_base="1.3", config_path=str(configs), config_name=config_name)(_guarded(run))
    sys.argv[1:] = [*flags, *_QUIET_HYDRA, f"hydra.job.name={config_name}", *overrides]
    command()


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Flags and overrides apart: argparse takes overrides on one side of a flag only."""
    is_override = [not word.startswith("-") and ("=" in word or word.startswith("~")) for word in arguments]
    flags = [word for word, yes in zip(arguments, is_override, strict=True) if not yes]
    return flags, [word for word, yes in zip(arguments, is_override, strict=True) if yes]


def _parse_flags(flags: list[str], overrides: list[str]) -> Any:
    arguments, unknown = get_args_parser().parse_known_args(flags)
    for word in [*unknown, *arguments.overrides]:
        name = word.lstrip("-")
        raise UserError(f"{word}: expected name=value, for instance {name if name.isidentifier() else 'seed'}=1")
    return arguments


def _guarded(run: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """`run` in a tuned process, ended with a message where the user is to blame."""

    @functools.wraps(run)
    def guarded(config: DictConfig) -> Any:
        tune_process()
        try:
            return run(config)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except Exception as error:
            cause = error
            while isinstance(cause, InstantiationException) and isinstance(cause.__cause__, Exception):
                cause = cause.__cause__
            if not _is_mistake(cause):
                raise
            _stop(cause)

    return guarded


def _is_mistake(error: Exception) -> bool:
    """Whether the user is to blame. Our functions raise ValueError for bad arguments; one from elsewhere is our bug."""
    if isinstance(error, OSError):
        return error.errno in _USERS_OS_ERRORS
    return isinstance(error, UserError) or (isinstance(error, ValueError) and _raised_in(error).startswith(_OUR_CODE))


def _raised_in(error: Exception) -> str:
    """The file whose code raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(Path(trace.tb_frame.f_code.co_filename).resolve())


def _stop(error: Exception) -> NoReturn:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    is_os_error = isinstance(error, OSError) and error.filename
    print(f"error: {error.filename}: {error.strerror}" if is_os_error else f"error: {error}", file=sys.stderr)  # type: ignore[attr-defined]
    raise SystemExit(2)
