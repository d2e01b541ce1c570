"""Makes the folder of a run, with its config.yaml, or finds an old one to go on with. One process
at a time writes there."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from metarl import zoo
from metarl.cli import checkpoints, origins, resumed_config, run_config, sweep
from metarl.cli.configs import as_dict
from metarl.cli.transcript import Transcript
from metarl.cli.words import command_line
from metarl.errors import UserError
from metarl.files import make_folder, remove_leftovers, write_text
from metarl.run import checkpoint
from metarl.run.lock import FolderLock
from metarl.run.loggers.opening import DISTANT
from metarl.run.rows import read_rows

_LONGEST = 60  # characters of a folder's name that tell what was chosen

Place = tuple[Path, FolderLock]


def say(message: str) -> None:
    print(message, file=sys.stderr)


class AskedRun:
    """A run that is about to begin or to go on."""

    def __init__(
        self,
        config: DictConfig,
        choices: Mapping[str, Any],
        take: Callable[[], Place],
        resume_from: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        # of the config's groups, as {"env": "half_cheetah_vel", "algo": "maml_ppo", ...}
        self.choices = choices
        self.resume_from = resume_from  # the checkpoint's content if an old run goes on
        self.folder: Path | None = None  # once it is made
        # of the present command; the seeds that share a simulation have one together
        self.transcript: Transcript | None = None
        self._take = take
        self._place: Place | None = None

    @property
    def has_work(self) -> bool:
        """Tells whether there is an iteration to train."""
        return self.resume_from is None or self.resume_from["iteration"] < self.config.iterations

    def take(self) -> Place:
        """Makes the folder this process's, and writes nothing there. Raises: UserError if it
        can't be had, or holds a run already."""
        if self._place is None:
            self._place = self._take()
            self.folder = self._place[0]
        return self._place

    def create(self) -> Place:
        """Makes the folder with its config.yaml, once all that the config asks for was found
        possible. In an old run's folder config.yaml tells from now on with what it goes on.

        Raises: UserError if it can't be written to, or holds a run already.
        """
        folder, lock = self.take()
        with _blamed_on(folder):
            if self.has_work:
                _set_aside_evaluation(folder)
                file = folder / "config.yaml"
                told = (run_config.made_by(file), run_config.commits(file))
                write_text(file, run_config.as_yaml(self.config, self.choices, *told))
                for written in _WRITTEN:
                    remove_leftovers(folder, written)
            if self.transcript is not None:
                self.transcript.begin(folder)
        return folder, lock


def refuse_links_out(folder: Path) -> None:
    """Raises: UserError if a name in the folder of an old run, or below it, is that of something
    elsewhere: what a training writes and removes there would be written and removed at home, with a
    run folder of a stranger's that was unpacked."""
    real = folder.resolve()
    for place in folder.rglob("*"):
        if place.is_symlink() and not place.resolve().is_relative_to(real):
            raise UserError(
                f"{place} is a link to {place.readlink()}, outside of the run's folder, where a "
                "training writes; expected what it leads to in its place"
            )


_WRITTEN = ("config.yaml.*", "metrics.*", "evaluations.*")
"""The files of a run folder that a training writes anew, whose writer may have been killed."""


def _set_aside_evaluation(folder: Path) -> None:
    """What lies in a run's folder as its evaluation is that of its end: while it goes on, that of an
    earlier end has another name."""
    file = folder / "evaluation.json"
    try:
        iteration = json.loads(file.read_text("utf-8"))["iteration"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):  # damaged, or of an early version
        iteration = "unknown"
    if not isinstance(iteration, int):  # A stranger's words would name any file.
        iteration = "unknown"
    file.replace(folder / f"evaluation_iteration_{iteration}.json")


@contextmanager
def choose(
    config: DictConfig,
    *,
    groups: tuple[str, str] = ("env", "algo"),
    load: Callable[[str], checkpoints.Loaded] = checkpoints.load,
    untrained: Callable[[DictConfig, Path], Any] = checkpoints.untrained,
) -> Iterator[AskedRun]:
    """The run that the config asks for. A new one's folder isn't made yet; an old one's is this
    process's from here on.

    When the `with` ends others may have it.

    Args:
      groups: whose choices name the default folder, runs/<one>/<other>/<date>-seed<seed>.
      load: brings the run of `resume` back; untrained: tries whether a configuration in a file can
        be that of a run.
    Raises: UserError if the folder holds a run already, another process writes there, or the
    overrides don't go with `resume`.
    """
    _check(config)
    with ExitStack() as held:
        transcript = held.enter_context(Transcript())
        if config.resume is not None:
            run = resumed(config.resume, given(config), held, groups, load, untrained)
            folder, _ = run.take()
            refuse_links_out(folder)
            _note_folder(folder, groups)
            plain = as_dict(run.config, resolve=True)
            for name in (name for name in DISTANT if name in plain["loggers"]):
                told = plain.get(name) or {}
                given_there = ", ".join(f"{k}={v}" for k, v in told.items() if v is not None)
                say(f"goes on telling {name} ({given_there}); loggers=[tensorboard] keeps it here")
        else:
            chosen = HydraConfig.get().runtime.choices
            choices = {
                group: choice for group, choice in chosen.items() if not group.startswith("hydra/")
            }
            if config.run_dir is not None:
                _refuse_a_run(Path(config.run_dir).expanduser())
            run = AskedRun(config, choices, lambda: _new_folder(config, choices, groups, held))
        run.transcript = transcript
        yield run


def say_how_to_go_on(folder: Path, iteration: int) -> None:
    say(f"stopped after iteration {iteration}; to go on: {resume_command(folder)}")


@contextmanager
def saying_how_to_evaluate(folder: Path, script: str = "train") -> Iterator[None]:
    """Inside, a training that is done is evaluated; Ctrl-C says how to make up for it."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"the training is done; to evaluate it: {resume_command(folder, script)}")
        sweep.End.to_go_on = None  # It is said.
        raise


def resume_command(folder: Path, script: str = "train") -> str:
    looks_like_a_home = str(folder).startswith("~")
    return command_line(script, resume=str(folder.absolute() if looks_like_a_home else folder))


def seeds(config: DictConfig) -> str:
    """The end of a run folder's name: seed3, or seeds0-7 of several."""
    num_seeds = config.get("num_seeds", 1)
    return (
        f"seeds{config.seed}-{config.seed + num_seeds - 1}"
        if num_seeds > 1
        else f"seed{config.seed}"
    )


def given(config: DictConfig) -> dict[str, Any]:
    """What the command line says, by its keys. Nothing where a run of a sweep goes on by itself: it
    was begun with all of it."""
    overrides = HydraConfig.get().overrides.task
    keys = [override.split("=")[0].lstrip("+~") for override in overrides]
    if config.resume is not None and "resume" not in keys:
        return {}
    return {key: OmegaConf.select(config, key) for key in keys}


def _new_folder(
    config: DictConfig, choices: Mapping[str, Any], groups: tuple[str, str], held: ExitStack
) -> Place:
    if config.run_dir is None:
        parent = Path("runs").joinpath(*(choices[group] for group in groups))
        folder, lock = _default_folder(parent, groups, seeds(config), held)
    else:
        folder, lock = named_folder(Path(config.run_dir).expanduser(), held)
    _note_folder(folder, groups)
    return folder, lock


def _note_folder(folder: Path, groups: tuple[str, str]) -> None:
    script = "fewshot" if "dataset" in groups else "train"
    sweep.note_folder(folder, resume_command(folder, script))


def _default_folder(parent: Path, groups: tuple[str, str], end: str, held: ExitStack) -> Place:
    """<parent>/<date>-<what was chosen>-<end>, with a number behind it if others have it: it belongs
    to who makes it."""
    name, number = (
        "-".join([f"{datetime.now():%Y-%m-%d_%H-%M-%S}", *_chosen(groups), end]),
        1,
    )
    folder = parent / name
    while not _made(folder, held):
        number += 1
        folder = parent / f"{name}-{number}"
    return folder, held.enter_context(FolderLock(folder, say=say))


def _chosen(groups: tuple[str, str]) -> list[str]:
    """What the command line chose besides the two groups that name the folders above, and can't be
    changed on resume, as a part of a name that any shell and file system takes: `model=gru
    algo.inner_lr=0.1` -> gru-inner_lr_0.1; long ones are cut.
    """
    config = HydraConfig.get()
    named_elsewhere = (*groups, "seed", "num_seeds", "run_dir", "log_every")
    parts = []
    for override in map(OverridesParser.create().parse_override, config.overrides.task):
        key, text = override.key_or_group, "" if override.is_delete() else str(override.value())
        if key in named_elsewhere or resumed_config.may_change(key):
            continue
        text = re.sub(r"[^a-zA-Z0-9_.+-]+", "_", text).strip("_.")
        named = (
            text
            if key in config.runtime.choices
            else f"{key.removeprefix(f'{groups[1]}.')}_{text or 'none'}"
        )
        parts.append(re.sub(r"[^a-zA-Z0-9_.+-]+", "_", named))
    whole = "-".join(sorted(filter(None, parts)))
    if len(whole) > _LONGEST:
        whole = f"{whole[: _LONGEST - 7].rstrip('-_.')}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"
    return [whole] if whole else []


def named_folder(folder: Path, held: ExitStack) -> Place:
    """A folder that may be there already, but without a run."""
    _made(folder, held)
    lock = held.enter_context(FolderLock(folder, say=say))
    _refuse_a_run(folder)  # Again: until now others could make one there.
    return folder, lock


def _made(folder: Path, held: ExitStack) -> bool:
    """Makes the folder and those above it; False if it was there. If nothing comes into it, it goes
    in the end."""
    with _blamed_on(folder):
        make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            make_folder(folder)  # which a file in its place refuses
            return False
    held.callback(_remove_if_empty, folder)
    return True


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _refuse_a_run(folder: Path) -> None:
    if (folder / "config.yaml").exists():
        raise UserError(
            f"{folder} holds a run already; go on with resume={folder}, or choose another run_dir"
        )
    if below := next((place for depth in _BELOW for place in folder.glob(depth)), None):
        raise UserError(
            f"run_dir={folder}: holds runs already, such as {below.parent}; expected a folder of its "
            "own, or comparisons of all that lies there would take it for one of them"
        )


_BELOW = ("*/config.yaml", "*/*/config.yaml")


@contextmanager
def _blamed_on(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"can't write the run folder {folder}: {error.strerror or error}"
        ) from error


def resumed(
    place: str,
    given: Mapping[str, Any],
    held: ExitStack,
    groups: tuple[str, str] = ("env", "algo"),
    load: Callable[[str], checkpoints.Loaded] = checkpoints.load,
    untrained: Callable[[DictConfig, Path], Any] = checkpoints.untrained,
    say: Callable[[str], None] = say,
) -> AskedRun:
    """The run of a folder or a checkpoint file, to go on with. The settings come from the
    checkpoint; only what doesn't change the numbers so far may be given anew. A run that was killed
    before its first checkpoint begins, with the settings of its config.yaml.

    Args: given: what the command line says; held: keeps the folder's lock; say: takes notices.
    """
    if place.startswith(zoo.PREFIX):
        raise UserError(
            f"resume={place}: the zoo has weights alone, which can be evaluated, filmed and "
            "adapted; expected a run folder"
        )
    location = checkpoint.named(Path(place).expanduser())
    folder = checkpoints.run_folder(location)
    if not _has_not_begun(location):
        checkpoint.resolve(location)  # an error if there is none, before anything is written there
    # Before anything is read: what another process still writes would be lost.
    lock = held.enter_context(FolderLock(folder, say=say))
    if _has_not_begun(location):
        config, choices, follow = run_config.read(folder / "config.yaml", groups)
        if (num_seeds := config.get("num_seeds", 1)) > 1:
            raise UserError(
                f"resume={place}: it holds {num_seeds} seeds, which one process trains together; "
                f"expected the folder of one of them, as {folder / f'seed{config.seed}'}"
            )
        untrained(config, folder / "config.yaml")
        content, done = None, 0
        say(f"{folder} has no checkpoint yet: the run begins")
    else:
        loaded = load(place)
        for warning in loaded.warnings:
            say(f"{warning}; going on from {loaded.path}")
        config, content, done = loaded.config, loaded.content, loaded.content["iteration"]
        if changed := origins.changes_since(content):
            say(f"{changed}: numbers needn't be those of a run that was never stopped")
        if keys := run_config.edited(folder / "config.yaml", content.get("config", {})):
            say(
                f"{folder / 'config.yaml'} was changed by hand ({', '.join(sorted(keys))}); the "
                "checkpoint's values hold"
            )
        choices = run_config.choices_in(folder / "config.yaml")
        follow = content.get("follow_iterations", run_config.FOLLOWED_IN_OLD_CHECKPOINTS)
    resumed_config.check_unchanged(config, given)
    resumed_config.change(config, given, follow, done, say)
    return AskedRun(config, choices, lambda: (folder, lock), content)


def _has_not_begun(location: Path) -> bool:
    """Tells whether a run was made there that didn't come to its first checkpoint, which is saved
    before the first iteration."""
    folder = checkpoints.run_folder(location)
    if (
        location.is_file()
        or location.name == checkpoint.BEST
        or not (folder / "config.yaml").is_file()
        or read_rows(folder / "metrics.jsonl")
    ):
        return False
    return not any(checkpoint.list_checkpoints(place) for place in (folder / "checkpoints", folder))


def _check(config: DictConfig) -> None:
    for key, least in (
        ("iterations", 0),
        ("seed", 0),
        ("checkpoint_every", 1),
        ("keep_checkpoints", 1),
    ):
        if config[key] < least:
            raise UserError(f"{key}={config[key]}: expected {least} or more")
    if config.seed + config.get("num_seeds", 1) > 2**63:
        raise UserError(
            f"num_seeds={config.num_seeds}: the last seed would be "
            f"{config.seed + config.num_seeds - 1}; expected at most 2^63 - 1"
        )
    if config.run_dir == "":
        raise UserError("run_dir=: expected a folder, or null for the default one")
