"""The folder of configs as data: which choices a group has, what is composed from them, and what
its comments say.

The YAML files are the only place that lists names, defaults and their meaning; help and checks are
read from them here. `folders` is the search path everywhere: our own folder first, then the user's
--config-dir if there is one.
"""

import copy
import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metarl.cli.words import hydra_text, one_line
from metarl.errors import UserError

_METARL = Path(__file__).resolve().parents[1]

CONFIGS = next(
    folder for folder in (_METARL / "_configs", _METARL.parent / "configs") if folder.is_dir()
)
"""metarl/_configs in a wheel, configs/ in a checkout."""


Chosen = dict[str, str | list[str] | None]
"""The choice that a configuration took of each of its groups."""


def choices(group: str, folders: list[Path], config_name: str | None = None) -> list[str]:
    """The names of a group's configs; none if there is no such group. What starts with _ is only
    built on by others.

    A file that can't be read is among them, so that who chooses it is told why.

    Args: config_name: leaves out those that choose from groups which this command doesn't have.
    """
    files = [file for folder in folders for file in (folder / group).glob("[!_]*.yaml")]
    if config_name is not None:
        known = _groups(_file(config_name, folders))
        files = [file for file in files if _fits(file, known)]
    return sorted({file.stem for file in files})


def _fits(file: Path, known: set[str]) -> bool:
    """Tells whether a config chooses from the groups `known` only."""
    try:
        return _overridden(file) <= known
    except UserError:
        return True  # It can't be read; whoever chooses it is told.


def _groups(file: Path | None) -> set[str]:
    """The groups in the defaults lists of a file and of those it builds on."""
    entries = (read(file) if file else {}).get("defaults", [])
    groups = {str(group) for entry in entries if not isinstance(entry, str) for group in entry}
    bases = [entry for entry in entries if isinstance(entry, str) and entry != "_self_"]
    return groups.union(*(_groups(_file(base, [file.parent])) for base in bases if file))


def _overridden(file: Path) -> set[str]:
    """The groups that a file chooses from in another's place: `override /env: ...`, `override
    /model@_global_.model: ...`."""
    overridden = {
        group.removeprefix("override /")
        for group in _groups(file)
        if group.startswith("override /")
    }
    return {group.partition("@")[0] for group in overridden}


def composed(
    config_name: str, overrides: list[str], folders: list[Path]
) -> tuple[dict[str, Any], Chosen]:
    """The configuration as a plain, unresolved dict, and which choice it took of each group.

    Raises: UserError where Hydra can't compose it, in a line; it names the file that can't be read,
    if that is why.
    """
    if folders == [CONFIGS]:
        return copy.deepcopy(_composed_of_ours(config_name, tuple(overrides)))
    return _composed(config_name, overrides, folders)


@lru_cache(maxsize=256)
def _composed_of_ours(
    config_name: str, overrides: tuple[str, ...]
) -> tuple[dict[str, Any], Chosen]:
    """Composes each configuration of our own folder once: a command asks for some of them several
    times, at a tenth of a second each. The folder doesn't change while a process runs."""
    return _composed(config_name, list(overrides), [CONFIGS])


def _composed(
    config_name: str, overrides: list[str], folders: list[Path]
) -> tuple[dict[str, Any], Chosen]:
    more = search_path(folders)
    try:
        with initialize_config_dir(str(folders[0].resolve()), version_base="1.3"):
            config = compose(config_name, [*overrides, *more], return_hydra_config=True)
    except (
        HydraException,
        OmegaConfBaseException,
        OSError,
        ValueError,
        TypeError,
        yaml.YAMLError,
    ) as error:
        raise UserError(_fault_of_chosen(overrides, folders) or one_line(error)) from error
    chosen = {
        group: choice
        for group, choice in config.hydra.runtime.choices.items()
        if not group.startswith("hydra/")
    }
    plain = as_dict(config, resolve=False)
    del plain["hydra"]
    return plain, chosen


def search_path(folders: list[Path]) -> list[str]:
    """What tells Hydra of the user's folders, behind our own."""
    if not folders[1:]:
        return []
    return [f"hydra.searchpath=[{','.join(_source(folder) for folder in folders[1:])}]"]


def as_dict(config: DictConfig, *, resolve: bool) -> dict[str, Any]:
    """The configuration as plain dicts and lists. Args: resolve: put what `${...}` stands for in
    its place."""
    plain = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def merged(*configs: DictConfig | dict[str, Any]) -> DictConfig:
    """One configuration; of a key that several have, the last one counts."""
    config = OmegaConf.merge(*configs)
    assert isinstance(config, DictConfig)
    return config


def _source(folder: Path) -> str:
    """The folder as an entry of Hydra's search path, whatever signs its name has."""
    return hydra_text(f"file://{folder.resolve()}")


def read(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, nothing composed. Raises: UserError naming the file and
    the line."""
    return copy.deepcopy(_read_of_ours(file)) if CONFIGS in file.parents else _read(file)


@cache
def _read_of_ours(file: Path) -> dict[str, Any]:
    return _read(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file}{line}: not YAML: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: expected a text in UTF-8; byte {error.start} isn't ({error.reason})"
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML: {one_line(error)}") from error
    except OSError as error:
        raise UserError(f"{file}: can't be read: {error.strerror or error}") from error
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{file}: expected keys and values, found {content!r:.60}")
    found = {str(key): value for key, value in (content or {}).items()}
    defaults = found.get("defaults", [])
    if not isinstance(defaults, list) or not all(
        isinstance(entry, str | dict) for entry in defaults
    ):
        raise UserError(
            f"{file}: defaults: expected a list of names and group: choice, found {defaults!r:.60}"
        )
    return found


def _fault(file: Path) -> str | None:
    """What is wrong with a file or one that it builds on, None if they can be read."""
    try:
        bases = [
            base
            for base in read(file).get("defaults", [])
            if isinstance(base, str) and base != "_self_"
        ]
    except UserError as error:
        return str(error)
    files = [file.parent / f"{base}.yaml" for base in bases]
    return next(filter(None, map(_fault, filter(Path.is_file, files))), None)


def _fault_of_chosen(overrides: list[str], folders: list[Path]) -> str | None:
    """What is wrong with the first broken file among those that the overrides choose, or else with
    any of the user's."""
    pairs = [text.lstrip("+").partition("=") for text in overrides]
    chosen = [folder / group / f"{choice}.yaml" for folder in folders for group, _, choice in pairs]
    users = [file for folder in folders[1:] for file in sorted(folder.rglob("*.yaml"))]
    return next(filter(None, map(_fault, [*filter(Path.is_file, chosen), *users])), None)


def comments(config_name: str, chosen: Chosen, folders: list[Path]) -> dict[str, str]:
    """The comment of every key, by its full name ("algo.inner_lr"), and of every group
    ("defaults.algo").

    It is the one on the key's line, or else the lines above it.
    """
    found = dict(_comments_of_file(_file(config_name, folders)))
    for group, choice in chosen.items():
        for name in choice if isinstance(choice, list) else [choice] if choice else []:
            file = _file(f"{group}/{name}", folders)
            is_global = file is None or "@package _global_" in file.read_text("utf-8")
            package = "" if is_global else f"{group.replace('/', '.')}."
            found.update((package + key, comment) for key, comment in _comments_of_file(file))
    return found


@cache
def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file of a folder of configs that is in a group of ours, or is a command's own, by its
    name ("model/gru.yaml"): what it sets, at the place where it sets it ({"model": {"memory":
    ...}}), references unresolved. What can't be read sets nothing here.
    """
    groups = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir())
    files = [
        *folder.glob("*.yaml"),
        *(file for group in groups for file in (folder / group).rglob("*.yaml")),
    ]
    return {file.relative_to(folder).as_posix(): _placed(file, folder) for file in files}


def _placed(file: Path, folder: Path) -> dict[str, Any]:
    try:
        text = file.read_text("utf-8")
        found = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return {}
    if not isinstance(found, dict):
        return {}
    header = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
    parts = file.relative_to(folder).parent.parts
    if header and header[1] != "_group_":
        parts = () if header[1] == "_global_" else tuple(header[1].split("."))
    placed = {str(key): value for key, value in found.items()}
    for part in reversed(parts):
        placed = {part: placed}
    return placed


def leaves(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its full name ("algo.inner_lr")."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        is_branch = isinstance(value, dict) and value
        found.update(leaves(value, f"{prefix}{name}.") if is_branch else {f"{prefix}{name}": value})
    return found


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _file(name: str, folders: list[Path]) -> Path | None:
    return next(
        (
            folder / f"{name}.yaml"
            for folder in reversed(folders)
            if (folder / f"{name}.yaml").is_file()
        ),
        None,
    )


def _comments_of_file(file: Path | None) -> Iterator[tuple[str, str]]:
    """The comments of a block-style YAML file, those of the configs it builds on first."""
    if file is None:
        return
    text = file.read_text("utf-8")
    for base in read(file).get("defaults", []):
        if isinstance(base, str) and base != "_self_":
            # In the folder of the file, or among ours, where one of a user's builds on it.
            yield from _comments_of_file(_file(base, [CONFIGS / file.parent.name, file.parent]))
    above: list[str] = []
    path: list[tuple[int, str]] = []  # Indentation and name of the keys that enclose the line.
    for line in _with_whole_comments(text.splitlines()):
        # A key, or a group in the defaults list.
        entry = re.match(r"( *(?:- )?)(\w+):(?: |$)", line)
        if line.lstrip().startswith("#"):
            above.append(line.strip().removeprefix("#").strip())
        elif entry:
            path = [(indent, key) for indent, key in path if indent < len(entry[1])] + [
                (len(entry[1]), entry[2])
            ]
            beside = re.search(r"\s#\s*(.*)$", line)
            if beside or above:
                yield ".".join(key for _, key in path), beside[1] if beside else " ".join(above)
            above = []
        else:
            above = []


def _with_whole_comments(lines: Iterable[str]) -> list[str]:
    """The lines of a config, each comment beside a key in one piece: it may go on in lines of
    comment alone, which begin in the same column."""
    found: list[str] = []
    column = -1
    for line in lines:
        if found and line.strip().startswith("#") and line.index("#") == column:
            found[-1] += f" {line.strip().removeprefix('#').strip()}"
            continue
        beside = re.search(r"\S\s+#\s", line)
        column = beside.end() - 2 if beside else -1
        found.append(line)
    return found
