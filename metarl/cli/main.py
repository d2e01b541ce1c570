"""What all commands share: composing the configuration with Hydra, the help text, and short
messages for user mistakes.

A command is a function of the composed configuration; `run_command("train", run)` runs it. What
differs from plain Hydra: mistakes on the command line are found before anything starts
(overrides.py), a mistake ends with a line or two on stderr and exit code 2 while a bug keeps its
traceback, a sweep goes on after a run that fails (sweep.py), and Hydra writes no folder of its own.
Results go to stdout, notices to stderr.
"""

import errno
import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from envs.own.world import EnvironmentFailed, WorldError
from metarl.cli import console, launchers, sweep, sweepers
from metarl.cli.configs import CONFIGS
from metarl.cli.helptext import help_text
from metarl.cli.overrides import check_overrides
from metarl.cli.strangers import cause
from metarl.cli.words import printable
from metarl.errors import Error, UserError
from metarl.run import distributed, memory, stopping
from metarl.run.training import Diverged

_QUIET_HYDRA = (
    "hydra.run.dir=.",
    # For hydra.mode=MULTIRUN; -m has a folder of its own.
    "hydra.sweep.dir=runs/sweeps/${now:%Y-%m-%d_%H-%M-%S}",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/hydra_logging=none",
    "hydra/job_logging=none",
    "+hydra.callbacks.metarl_sweep._target_=metarl.cli.sweep.End",
)

_INTERRUPTED = 130  # the exit code after Ctrl-C
_USERS_OS_ERRORS = (
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
)


def run_command(
    config_name: str, run: Callable[[DictConfig], Any], *, configs: Path = CONFIGS
) -> None:
    """Runs a command: composes `config_name` with the overrides of `sys.argv` and calls `run` with
    the result.

    Hydra's own flags work: `-m` for a sweep, `--cfg job` to print the configuration, `--info`,
    `--config-dir`. Ends the process with 2 after a user's mistake (each `Error` of metarl/errors.py;
    a file that can't be read or written; too little memory), 130 after Ctrl-C, 141 when nobody
    reads the output any more. Everything else is a bug and shows its traceback; HYDRA_FULL_ERROR=1
    shows it always.
    """
    with console.tolerant():
        try:
            _check_text(sys.argv[1:])
            flags, overrides = _split(sys.argv[1:])
            arguments = _parse_flags(flags, overrides)
            _check_processes(config_name, arguments)
            folders = [configs, *users_folder(arguments.config_dir, configs)]
            config_name = arguments.config_name or config_name
            if arguments.help:
                print(
                    help_text(
                        config_name, sys.modules[run.__module__].__doc__ or "", overrides, folders
                    )
                )
                return
            launcher = sweep.BASIC
            for word in overrides:
                if word.startswith("hydra/launcher="):
                    launcher = word.partition("=")[2]
                    launchers.check(launcher, multirun=arguments.multirun)
                if word.startswith("hydra/sweeper="):
                    sweepers.check(word.partition("=")[2], multirun=arguments.multirun)
            if not (arguments.hydra_help or arguments.shell_completion):
                shows_only = bool(arguments.cfg or arguments.info)
                overrides = check_overrides(
                    config_name,
                    overrides,
                    folders,
                    sweep=arguments.multirun,
                    required=not shows_only,
                )
            places = launchers.settings(launcher, overrides)
            if arguments.multirun and not any(
                word.startswith("hydra.sweep.dir=") for word in overrides
            ):
                places.append(f"hydra.sweep.dir={sweep.new_folder()}")
        except UserError as error:
            if distributed.rank() > 0:  # Number 0 says it.
                raise SystemExit(2) from None
            _stop(error)
        command = hydra.main(version_base="1.3", config_path=str(configs), config_name=config_name)(
            _guarded(run)
        )
        sys.argv[1:] = [*flags, *_QUIET_HYDRA, f"hydra.job.name={config_name}", *places, *overrides]
        try:
            if launcher == sweep.BASIC:
                with sweep.told_where_stopped():
                    command()
                return
            with sweep.to_its_end(launcher):
                command()
        finally:
            sweep.let_go()


def _check_text(words: list[str]) -> None:
    """Files of a run hold its words in UTF-8. Raises: UserError for other bytes."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{ascii(word)[1:-1]}: isn't text in UTF-8; expected such names, or PYTHONUTF8=1 "
                "where only the shell's language is another"
            ) from None


def _check_processes(command: str, arguments: Any) -> None:
    if (num := distributed.num_processes()) == 1:
        return
    if command != "train":
        raise UserError(f"{command} is done in one process, not in {num}; call it without torchrun")
    if arguments.multirun:
        raise UserError("-m starts runs, torchrun shares out one; they don't go together")


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Tells flags from overrides: argparse takes overrides on one side of a flag only."""
    is_override = [
        not word.startswith("-") and ("=" in word or word.startswith("~")) for word in arguments
    ]
    for place, word in enumerate(arguments[:-1]):
        if word in _FLAGS_WITH_VALUE:
            is_override[place + 1] = False  # A folder may have the name a=b.
    flags = [word for word, yes in zip(arguments, is_override, strict=True) if not yes]
    return flags, [word for word, yes in zip(arguments, is_override, strict=True) if yes]


_FLAGS_WITH_VALUE = (
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
    "--package",
    "-p",
)


def _parse_flags(flags: list[str], overrides: list[str]) -> Any:
    arguments, unknown = get_args_parser().parse_known_args(flags)
    for word in [*unknown, *arguments.overrides]:
        name = word.lstrip("-")
        raise UserError(
            f"{word}: expected name=value, for instance {name if name.isidentifier() else 'seed'}=1"
        )
    modes = [
        flag
        for flag in ("cfg", "info", "multirun", "run", "shell_completion")
        if getattr(arguments, flag)
    ]
    if len(modes) > 1:
        raise UserError(f"--{modes[0]} and --{modes[1]} don't go together")
    if arguments.resolve and not arguments.cfg:
        raise UserError("--resolve goes with --cfg job")
    return arguments


def users_folder(config_dir: str | None, configs: Path = CONFIGS) -> list[Path]:
    """The folder of the user's own configs, if there is one. Raises: UserError for a folder that
    isn't there, isn't laid out as `configs`, or has a file of the same name: Hydra would take
    ours."""
    if config_dir is None:
        return []
    folder = Path(config_dir)
    if not folder.is_dir():
        raise UserError(
            f"--config-dir {config_dir}: "
            f"{'is no folder' if folder.exists() else 'there is no such folder'}"
        )
    groups = [place.name for place in configs.iterdir() if place.is_dir()]
    if not any(folder.glob("*.yaml")) and not any((folder / group).is_dir() for group in groups):
        raise UserError(
            f"--config-dir {config_dir}: holds no configs; expected a folder laid out as configs/, "
            f"with env/<name>.yaml and the like, not {config_dir}/<folder>/env/<name>.yaml"
        )
    if folder.resolve() != configs.resolve():
        for name in sorted(file.relative_to(configs) for file in configs.rglob("*.yaml")):
            if (folder / name).exists():
                raise UserError(
                    f"--config-dir {config_dir}: {name} has the name of one of metarl's, which would "
                    f"be taken instead of it; expected another, as {name.with_stem(f'my_{name.stem}')}"
                )
    return [folder]


def _log_to_stderr() -> None:
    """Notices of all libraries from warnings on, ours from information on. Hydra's own are left to
    sweep.py."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[console.Notices()])
    logging.getLogger("metarl").setLevel(logging.WARNING if distributed.rank() else logging.INFO)


def _guarded(run: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """`run`, ended with a message where the user is to blame; in a sweep, that is only noted.

    What it returns in a sweep is for Hydra's sweepers: the score of a training; None after a
    failure.
    """

    command = sys.argv

    @functools.wraps(run)
    def guarded(config: DictConfig) -> Any:
        sys.argv = command  # A launcher's process was called otherwise.
        # Again: a sweep's launcher may have started another process.
        with console.tolerant(), stopping.as_interrupts():
            _log_to_stderr()
            sweep.begin_run(config)
            launchers.share_cores(config)
            folder = sweep.done_before()
            if folder is not None:
                return sweepers.score(folder)
            try:
                run(config)
                folder = sweep.folder_of_run()
                return sweepers.score(folder) if folder is not None and sweep.is_sweep() else None
            except KeyboardInterrupt:
                print(f"interrupted{sweep.how_to_go_on()}", file=sys.stderr)
                return _interrupted()
            except SystemExit as stop:
                if stop.code != _INTERRUPTED:
                    raise
                return _interrupted()
            except Exception as error:
                if console.is_closed_pipe(error):
                    raise
                fault = cause(error)
                if sweep.is_sweep():
                    if _is_mistake(fault):
                        sweep.note_failure(_told(fault))
                    else:
                        sweep.note_failure(
                            f"{traceback.format_exc().strip().rstrip('.')}{sweep.how_to_go_on()}"
                        )
                    return None
                if not _is_mistake(fault):
                    raise
                _stop(fault)

    return guarded


def _interrupted() -> None:
    """Ends the process, with a sweep whose runs are done in it; a run that is in a process of its own
    leaves the others alone."""
    if not launchers.is_by_itself():
        raise SystemExit(_INTERRUPTED) from None
    sweep.note_failure(f"stopped{sweep.how_to_go_on()}")


def _is_mistake(error: Exception) -> bool:
    """Tells whether the user is to blame: who raises an error says so by its class."""
    if isinstance(error, OSError):
        return error.errno in _USERS_OS_ERRORS
    return isinstance(error, Error | WorldError) or memory.is_exhausted(error)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if memory.is_exhausted(error):
        first, *_ = str(error).splitlines() or ["malloc failed"]
        if isinstance(error, torch.OutOfMemoryError):
            return (
                f"the GPU's memory is too small for sizes as large as these: {first} Expected a "
                "smaller chunk (tasks that are differentiated together), or fewer tasks or episodes"
            )
        return f"too little memory for sizes as large as these: {first}"
    if isinstance(error, EnvironmentFailed):
        return f"{error}; HYDRA_FULL_ERROR=1 shows its traceback"
    return str(error)


def _told(error: Exception) -> str:
    """What a user's mistake says, and how to go on with a run; one that has diverged would do so
    again."""
    on = "" if isinstance(error, Diverged) else sweep.how_to_go_on()
    return f"{_message(error)}{on}"


def _stop(error: Exception) -> NoReturn:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    lines = "\n".join(map(printable, _told(error).split("\n")))  # There may be files' words in it.
    print(f"error: {lines}", file=sys.stderr)
    raise SystemExit(2)
