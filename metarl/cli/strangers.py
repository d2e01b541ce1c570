"""A checkpoint, or the config.yaml beside it, may come from a stranger: what its configuration may
hold and name.

A configuration says what is called: every `_target_`, and an environment's `module:function`. From
a file only those are called that our own configs name at that place, or the user names for this
command: on the command line or in --config-dir. Hydra's own list of forbidden targets isn't relied
on. Interpolations (`${oc.env:HOME}`) run code, too; what we save has none.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

import envs
from metarl.cli.allowed import allowed
from metarl.cli.configs import CONFIGS, as_dict, contents, merged
from metarl.cli.kinds import like
from metarl.cli.moved import present_name
from metarl.cli.words import one_line
from metarl.errors import UserError

GROUPS = {
    "train": ("env", "model", "algo", "sim"),
    "fewshot": ("dataset", "backbone", "learner"),
}
"""What a run's configuration must have, by the command that made it."""

_NEEDED = {
    "train": ("seed", "iterations"),
    "fewshot": ("seed", "iterations", "ways", "shots", "queries"),
}
_DEEPEST = 20  # levels; ours have four
_MOST = 10_000  # values, each as often as it stands somewhere; ours have some two hundred
_OF_LOGGERS = {"wandb": ("project", "entity", "mode", "name", "group", "tags", "notes", "job_type")}


def checked(found: Any, file: Path, command: str, *, with_env: bool = True) -> DictConfig:
    """The configuration that `file` holds, once it was found to be data and to call nothing but
    what it may.

    What is called of the user's own is said in a line. What leaves the numbers so far alone (how
    often to save, what to evaluate) may be missing in it, as in files of older versions, and is
    then as in `command`'s own config.

    Args: with_env: whether its environment will be called. Raises: UserError naming the file and
    the first thing that doesn't fit.
    """
    with blamed_on(file, "config"):
        if not isinstance(found, dict):
            raise ValueError(f"config is {_brief(found)}; expected a dict")
        _check_size(found)
        _check_is_data(found)
        _check_names(found, with_env=with_env)
        _check_values(found, command)
        defaults = {
            key: value
            for key, value in contents(CONFIGS)[f"{command}.yaml"].items()
            if key not in ("defaults", "hydra")
        }
        return merged(defaults, found)


@contextmanager
def blamed_on(file: Path, part: str) -> Iterator[None]:
    """Whatever goes wrong inside is the fault of that part of the file, and said in a line;
    HYDRA_FULL_ERROR=1 shows all."""
    try:
        yield
    except UserError:
        raise  # says it already, with the file's name or that of another, which is gone
    except Exception as error:
        fault = cause(error)
        reason = one_line(fault)
        if not isinstance(fault, ValueError):
            reason = f"{type(fault).__name__}: {reason}"
        raise UserError(f"{file} doesn't fit, its {part}: {reason}") from error


def cause(error: Exception) -> Exception:
    """What was raised in a constructor, without Hydra's words around it."""
    while isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def field(content: Mapping[str, Any], name: str, kind: type, expected: str) -> Any:
    """Returns an entry of a file's content. Raises: ValueError if it is missing or of another
    kind."""
    if name not in content:
        raise ValueError(f"{name} is missing; expected {expected}")
    value = content[name]
    if (
        not isinstance(value, kind)
        or isinstance(value, bool)
        or (isinstance(value, int) and value < 0)
    ):
        raise ValueError(f"{name} is {_brief(value)}; expected {expected}")
    return value


def check_words(found: Any, name: str) -> None:
    """Raises: ValueError unless it is a list of words, which may have dots: what becomes part of
    titles, or names a setting."""
    if not isinstance(found, list):
        raise ValueError(f"{name} is {_brief(found)}; expected a list of words")
    for word in found:
        if not isinstance(word, str) or not re.fullmatch(r"[\w.-]{1,80}", word):
            raise ValueError(f"{name} is {_brief(word)}; expected a word")


def named(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration makes us call and how, by its place: keys that Hydra reads, and
    environments that aren't ours."""
    found = {
        key: present_name(value)
        for key, value in _everything(config)
        if key.rpartition(".")[2].startswith("_")
    }
    env = config.get("env")
    name = env.get("name") if isinstance(env, Mapping) else None
    return found | (
        {} if name is None or (isinstance(name, str) and name in envs.ALL) else {"env.name": name}
    )


def say_what_is_called(config: DictConfig) -> None:
    """Says in a line each what this configuration of the user's own calls that isn't metarl's."""
    for key, value in _not_ours(as_dict(config, resolve=True)).items():
        print(f"{key}: calls {value}, which isn't metarl's", file=sys.stderr)


def own_targets(config: Mapping[str, Any]) -> list[str]:
    """What a configuration names as a `_target_` that isn't metarl's."""
    found = _not_ours(config).items()
    return [value for key, value in found if key.endswith("_target_") and isinstance(value, str)]


def _not_ours(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in named(config).items()
        if (key, repr(value)) not in _named_in(CONFIGS) and key.endswith(("_target_", "env.name"))
    }


def _check_size(found: dict[str, Any]) -> None:
    """Raises: ValueError for more values than any configuration has. A few lists of one another, ten
    times each, are soon more than can ever be walked through."""
    waiting: list[Any] = [found]
    count = 0
    while waiting:
        values = waiting.pop()
        count += len(values)
        if count > _MOST:
            raise ValueError(f"config has more than {_MOST} values")
        below = values.values() if isinstance(values, dict) else values
        waiting.extend(value for value in below if isinstance(value, dict | list))


def _check_is_data(found: Any, place: str = "", depth: int = 0) -> None:
    """Raises: ValueError unless it is numbers, strings without interpolations, lists, and dicts
    with words for keys."""
    if depth > _DEEPEST:
        raise ValueError(f"{place[:60]}... is nested deeper than {_DEEPEST} levels")
    if isinstance(found, dict):
        for key, value in found.items():
            if not isinstance(key, str):
                raise ValueError(f"{place or 'config'} has the key {_brief(key)}; expected words")
            _check_is_data(value, f"{place}.{key}" if place else key, depth + 1)
    elif isinstance(found, list):
        for index, value in enumerate(found):
            _check_is_data(value, f"{place}[{index}]", depth + 1)
    elif type(found) not in (str, int, float, bool, type(None)):
        raise ValueError(
            f"{place} is {_brief(found)}; expected a number, a string, a list or a dict"
        )
    elif isinstance(found, str) and ("${" in found or found == "???"):
        raise ValueError(
            f"{place} is {_brief(found)}; a saved configuration has values, and refers to nothing"
        )


def _check_names(config: Mapping[str, Any], *, with_env: bool) -> None:
    ours, users = _named_in(CONFIGS), _named_by_user()
    for key, value in named(config).items():
        pair = (key, repr(value))
        if pair in ours or (key == "env.name" and not with_env):
            continue
        if pair not in users:
            raise ValueError(
                f"{key} is {_brief(value)}, which isn't metarl's, and a file can't make us call "
                "it; if it is code of your own that you trust, name it yourself: in a config of "
                "--config-dir (in Python config_dir=...), or on the command line, "
                f"{key}=... where the command has that key and +{key}=... elsewhere"
            )
        print(
            f"{key}: calls {value}, which isn't metarl's but named by {users[pair]}",
            file=sys.stderr,
        )


def _check_values(config: Mapping[str, Any], command: str) -> None:
    """Raises: ValueError if a setting that can't be done without is missing, or one isn't what it
    may be."""
    for group in GROUPS[command]:
        if not isinstance(config.get(group), dict):
            raise ValueError(
                f"{group} is {_brief(config.get(group))}; expected the settings of the {group}"
            )
        if (key := {"env": "name", "sim": "backend"}.get(group, "_target_")) not in config[group]:
            raise ValueError(f"{group}.{key} is missing")
    for key in _NEEDED[command]:
        if config.get(key) is None:
            raise ValueError(f"{key} is missing")
    for logger, keys in _OF_LOGGERS.items():
        for key in config.get(logger) or {}:
            if key not in keys:
                raise ValueError(f"{logger}.{key}: a file may say {', '.join(keys)} alone")
    defaults = defaults_of_ours()
    for key, value in _everything(config):
        kind = allowed(key, config, command)
        kinds = (
            [kind]
            if kind
            else [like(default) for default in defaults.get(key, []) if default is not None]
        )
        # null is left to whoever takes the setting.
        if kinds and value is not None and not any(kind.fits(value) for kind in kinds):
            raise ValueError(f"{key} is {_brief(value)}; expected {kinds[0].expected}")


@cache
def defaults_of_ours() -> dict[str, list[Any]]:
    """Every value, containers too, that a setting has in our configs, by its full name; references
    to others left out."""
    found: dict[str, list[Any]] = {}
    for config in contents(CONFIGS).values():
        for key, value in _everything(config):
            if not (isinstance(value, str) and "${" in value):
                found.setdefault(key, []).append(value)
    return found


def _named_by_user() -> dict[tuple[str, str], str]:
    """(place, what is named there) -> where the user of this command says so."""
    if not HydraConfig.initialized():
        return {}
    config = HydraConfig.get()
    sources = [
        Path(source.path) for source in config.runtime.config_sources if source.schema == "file"
    ]
    found = {
        pair: str(folder)
        for folder in sources
        for pair in _named_in(folder, config.job.config_name)
    }
    for override in map(OverridesParser.create().parse_override, config.overrides.task):
        if not override.is_delete() and not override.is_sweep_override():
            given = OmegaConf.create({})
            OmegaConf.update(given, override.key_or_group, override.value())
            found |= dict.fromkeys(_pairs(OmegaConf.to_container(given)), "the command line")
    return found


@cache
def _named_in(folder: Path, config_name: str | None = None) -> frozenset[tuple[str, str]]:
    """What the groups of a folder of configs name, at its place; of the files beside them the one
    of this name only, for a folder may hold a stranger's config.yaml."""
    files = {
        name: config
        for name, config in contents(folder).items()
        if "/" in name or name == f"{config_name}.yaml"
    }
    return frozenset(pair for config in files.values() for pair in _pairs(config))


def _pairs(config: Any) -> set[tuple[str, str]]:
    return {(key, repr(value)) for key, value in named(config).items()}


def _everything(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value at any depth, containers too, by its full name: "model.memory._target_",
    "sizes[0]"."""
    children: Iterator[tuple[str, Any]] = iter(())
    if isinstance(tree, Mapping):
        children = ((f"{place}.{key}" if place else str(key), value) for key, value in tree.items())
    elif isinstance(tree, list):
        children = ((f"{place}[{index}]", value) for index, value in enumerate(tree))
    for key, value in children:
        yield key, value
        yield from _everything(value, key)


def _brief(value: Any) -> str:
    if value is None:
        return "missing"
    text = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
