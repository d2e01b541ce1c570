"""Checks what the user typed against the configs, so that a mistake is answered in a line with what
is allowed.

An override is `group=choice`, a file of the folder configs/group, or `key=value` of the composed
configuration. What a value may be stands in allowed.py; of a key of a user's own config that isn't
there, the value must have the type of the default, and `null` needs a default of null, or a comment
in the YAML that says what null means.
"""

import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metarl.choices import did_you_mean
from metarl.cli.allowed import allowed
from metarl.cli.configs import Chosen, choices, comments, composed, leaves, shown
from metarl.cli.kinds import (
    Anything,
    Fixed,
    Integer,
    Kind,
    ListOf,
    OneOf,
    OrNull,
    Pattern,
    Target,
    Word,
    like,
)
from metarl.cli.moved import present_name
from metarl.cli.resumed_config import CANT_CHANGE, may_change
from metarl.cli.strangers import GROUPS, defaults_of_ours
from metarl.cli.words import hydra_text, one_line
from metarl.errors import UserError


def check_overrides(
    config_name: str,
    overrides: list[str],
    folders: list[Path],
    *,
    sweep: bool = False,
    required: bool = True,
) -> list[str]:
    """Checks every override, in a sweep (-m) every value of it under every combination of groups;
    then the configuration as a whole, for a user's own files may be wrong, too.

    Args:
      folders: the search path, see configs.py.
      required: also ask for the values that have no default (`???`).
    Returns: the overrides as Hydra reads them: where a word is expected, text that its grammar
    can't read stands in quotes. Raises: UserError naming the override, what is allowed, and the
    closest allowed name.
    """
    every = [_parse(text) for text in overrides]
    texts = [
        override
        for override, typed in zip(every, overrides, strict=True)
        if override.input_line != typed
    ]
    parsed = [override for override in every if not override.is_hydra_override()]
    chooses_sweeper = any(override.key_or_group == "hydra/sweeper" for override in every)
    for override in parsed:
        if override.is_sweep_override() and not sweep:
            key, value = override.key_or_group, str(override.input_line).split("=", 1)[1]
            raise UserError(
                f"{key}={value}: several values need -m (a run for each); a list is written "
                f"{key}=[{value}]"
            )
        if override.is_interval_sweep() and not chooses_sweeper:
            raise UserError(
                f"{override.input_line}: Hydra's own sweeper can't draw from an interval; expected "
                f"values, as {override.key_or_group}=0.1,0.3, range(...) or choice(...)"
            )
    if any(override.is_sweep_override() for override in parsed):
        _check_own_folders(parsed)
    groups = [override for override in parsed if choices(override.key_or_group, folders)]
    values = [override for override in parsed if override not in groups]
    _check_groups(config_name, groups, folders)
    own = _own_keys(config_name, folders)
    _check_hydras_folder(every, own)
    goes_on = any(o.key_or_group == "resume" and o.value() is not None for o in values)
    for combination in itertools.product(*(_as_single_choices(group, folders) for group in groups)):
        config, chosen = composed(config_name, list(combination), folders)
        _check_files(config_name, config, chosen)
        if lost := sorted(own - leaves(config).keys()):
            raise UserError(f"{lost[0]} is missing; {config_name} needs it")
        meaning = comments(config_name, chosen, folders)
        surplus = _surplus(config_name, config, chosen, folders)
        for override in values:
            if goes_on:
                _check_known_on_resume(override, config)
            _check_value(override, config, meaning, surplus, config_name, is_text=override in texts)
        _check_experiment(chosen, values, surplus, config_name, folders)
        if required:
            _check_required(config, {override.key_or_group for override in values}, meaning)
        settled = [_as_single_value(override) for override in every if override not in groups]
        whole, _ = (
            composed(config_name, [*combination, *filter(None, settled)], folders)
            if settled
            else (config, chosen)
        )
        _check_config(whole, config, meaning, config_name)
        _check_settings(whole, config_name)
    return [str(override.input_line) for override in every]


def _check_own_folders(overrides: Iterable[Override]) -> None:
    """Raises: UserError if the runs of a sweep would all have the folder of the first."""
    for override in overrides:
        text = str(override.input_line).partition("=")[2]
        is_one = override.key_or_group == "run_dir" and not override.is_sweep_override()
        if is_one and "${" not in text and text != "null":
            raise UserError(
                f"run_dir={text}: the runs of a sweep need a folder each; expected "
                f"'run_dir={text}/${{seed}}' or the like, or none, for folders below runs/"
            )


def _check_hydras_folder(overrides: Iterable[Override], own: Iterable[str]) -> None:
    """Raises: UserError for Hydra's own way to name a run's folder, where nothing would come."""
    for override in overrides:
        if override.key_or_group == "hydra.run.dir":
            folder = str(override.input_line).partition("=")[2]
            ours = "run_dir" if "run_dir" in own else "output"
            raise UserError(
                f"hydra.run.dir={folder}: nothing is written there; expected {ours}={folder}"
            )


def _parse(text: str) -> Override:
    """Parses an override. A value that Hydra can't read, such as a path with an umlaut, is taken
    for a word."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        key, _, value = text.partition("=")
        try:
            return OverridesParser.create().parse_override(f"{key}={hydra_text(value)}")
        except HydraException:
            raise UserError(_unreadable(text, str(error).splitlines()[0])) from None


def _unreadable(text: str, reason: str) -> str:
    return f"{text}: not of the form name=value ({reason}); quote what is special: 'name=\"a, b\"'"


def _check_groups(config_name: str, groups: Iterable[Override], folders: list[Path]) -> None:
    """Checks that each group has a config of the name chosen, and belongs to this command."""
    for override in groups:
        group, names_allowed = (
            override.key_or_group,
            choices(override.key_or_group, folders, config_name),
        )
        values = _values(override, names_allowed)
        names = [
            name for value in values for name in (value if isinstance(value, list) else [value])
        ]
        if override.is_sweep_override() and not names:
            raise UserError(
                f"{override.input_line}: fits no {group}\n{group} is one of: "
                f"{', '.join(names_allowed)}"
            )
        for name in names:
            if name is not None and str(name) not in names_allowed:
                if str(name) in choices(group, folders):
                    raise UserError(
                        f"{group}={name} is of another command; of {config_name}, {group} is one "
                        f"of: {', '.join(names_allowed)}"
                    )
                hint = did_you_mean(name, names_allowed)
                if not hint and len(folders) == 1:
                    hint = "; one of your own needs --config-dir <its folder>"
                if ":" in str(name):
                    hint = f"; code of your own is named in a config, {group}/<name>.yaml in a folder for --config-dir"
                raise UserError(
                    f"{group}={name}: there is no {group} of that name{hint}\n{group} is one of: "
                    f"{', '.join(names_allowed)}"
                )
        known = composed(config_name, [], folders)[1]
        if group not in known and not override.is_add():
            raise UserError(
                f"{override.input_line}: {config_name} has no {group}. Its groups are: "
                f"{', '.join(sorted(known))}"
            )
        if override.is_delete() or None in names:
            needs = known.get(group) is not None
            why = (
                f"{config_name} needs one of its {group} configs"
                if needs
                else f"leave it out to have no {group}"
            )
            raise UserError(f"{override.input_line}: {why}")


_INSTEAD = {
    ("fewshot", "num_seeds"): "few-shot seeds have no simulation to share; a run for each is "
    "-m seed=0,1,2"
}
"""What to say of a key that another command has, by command and key."""


def _check_value(
    override: Override,
    config: dict[str, Any],
    meaning: dict[str, str],
    surplus: set[str],
    config_name: str,
    *,
    is_text: bool,
) -> None:
    """Checks that the key exists, and that the value is what it may be.

    Args: is_text: Hydra's grammar couldn't read the value, so it was taken for a word.
    """
    key = override.key_or_group
    if instead := _INSTEAD.get((config_name, key)):
        raise UserError(f"{override.input_line}: {instead}")
    default: Any = config
    for depth, part in enumerate(key.split(".")):
        if not isinstance(default, dict) or part not in default:
            if override.is_add() or override.is_force_add():
                return  # `+key=value`: the user says that the key is new.
            _raise_unknown(override, ".".join(key.split(".")[:depth]), default, config)
        default = default[part]
    if override.is_delete():
        _check_deleted(key, default, config, surplus, config_name)
        return
    kind = _kind(key, default, config, meaning, config_name)
    values = _values(override)
    if is_text and not isinstance(
        kind.kind if isinstance(kind, OrNull) else kind, Word | Pattern | OneOf
    ):
        raise UserError(_unreadable(f"{key}={values[0]}", f"expected {kind.expected}"))
    for value in values:
        if not _is_open(value):
            _check_kind(key, value, kind, default)


def _kind(
    key: str, default: Any, config: dict[str, Any], meaning: dict[str, str], config_name: str
) -> Kind:
    """Returns what the key may be: as allowed.py says, else as its default and its comment say."""
    name = key.split(".")[-1]
    if name == "_target_":
        return Target()
    if name.startswith("_"):
        return Fixed(default)
    if (known := allowed(key, config, config_name)) is not None:
        return known
    kind = Anything() if _is_open(default) else like(default)
    return OrNull(kind) if "null" in meaning.get(key, "") else kind


def _is_open(value: Any) -> bool:
    """Tells whether the text stands for something else: what is asked for (`???`), or what `${...}`
    becomes."""
    return isinstance(value, str) and (value == "???" or "${" in value)


def _check_kind(key: str, value: Any, kind: Kind, default: Any) -> None:
    if kind.fits(value):
        return
    bare = kind.kind if isinstance(kind, OrNull) else kind
    hint = ""
    if isinstance(bare, ListOf) and bare.entry.fits(value):
        hint = f"; write {key}=[{shown(value)}]"
    elif isinstance(bare, Word) and isinstance(value, int | float):
        hint = f"; write '{key}=\"{shown(value)}\"' if that is its name"
    elif default is not None and not _is_open(default):
        hint = f"; the default is {shown(default)}"
    wanted = kind.expected
    if isinstance(bare, Target) and isinstance(value, str) and (problem := bare.problem(value)):
        raise UserError(f"{key}={value}: {problem}")
    if isinstance(bare, Integer) and isinstance(value, int) and value > bare.most:
        wanted = f"an integer, {bare.most} or less"
    raise UserError(f"{key}={shown(value)}: expected {wanted}{hint}")


def _check_deleted(
    key: str, default: Any, config: dict[str, Any], surplus: set[str], config_name: str
) -> None:
    """Checks that nothing is left out but what an experiment has too much, settings of an
    environment, and what is a user's own."""
    below = [f"{key}.{name}" for name in leaves(default)] if isinstance(default, dict) else [key]
    for name in below:
        is_setting = name.startswith("env.") and name != "env.name"
        is_known = allowed(name, config, config_name) is not None or name.split(".")[-1].startswith(
            "_"
        )
        if is_known and not is_setting and name not in surplus:
            raise UserError(
                f"~{key}: {config_name} needs {name}; it can be set to another value, but not left "
                "out"
            )


def _check_config(
    whole: dict[str, Any], before: dict[str, Any], meaning: dict[str, str], config_name: str
) -> None:
    """Checks that all values are what they may be, also those from files and those of `${...}`.

    Args: before: without the overrides of single values.
    """
    resolved, defaults = OmegaConf.create(whole), leaves(before)
    for key, value in leaves(whole).items():
        if value == "???" or (isinstance(value, str) and "${hydra:" in value):
            continue  # Asked for elsewhere; known when Hydra has begun.
        if _is_open(value):
            try:
                value = OmegaConf.select(resolved, key)
            except OmegaConfBaseException as error:
                raise UserError(f"{key}={one_line(value)}: {one_line(error)}") from None
        _check_kind(
            key,
            value,
            _kind(key, defaults.get(key, value), whole, meaning, config_name),
            defaults.get(key),
        )


_HYDRAS = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")


def _check_files(config_name: str, config: dict[str, Any], chosen: Chosen) -> None:
    """Raises: UserError for what a user's own file of a group lacks, or misspells."""
    for key in leaves(config):
        for part in key.split("."):
            if part.startswith("_") and part not in _HYDRAS:
                raise UserError(
                    f"{key}: there is no such key{did_you_mean(part, _HYDRAS)}\nwith _ in front there "
                    f"are: {', '.join(_HYDRAS)}"
                )
    if chosen.get("env") and not (config.get("env") or {}).get("name"):
        raise UserError(
            f"env={chosen['env']}: its file has no `name`; expected that of an environment, for "
            "instance half_cheetah_vel, or own_environment"
        )
    for group in GROUPS.get(config_name, ()):
        is_called, settings = group not in ("env", "sim"), config.get(group) or {}
        if not isinstance(settings, dict):
            continue  # told below
        if is_called and chosen.get(group) and "_target_" not in settings:
            raise UserError(
                f"{group}={chosen[group]}: its file has no `_target_`; expected the full name of what "
                f"makes the {group}, as the files of configs/{group} have it, or one of those in its "
                "defaults"
            )


def _check_settings(config: Any, config_name: str) -> None:
    """Raises: UserError for a setting that what it is for doesn't take: a file of the user's may have
    it, or `+key=value`."""
    for place, settings in _with_targets(config):
        target = settings["_target_"]
        parameters = _parameters(target)
        if parameters is None:
            continue
        passes_on = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        if passes_on and not target.startswith("metarl."):
            continue  # What a user's own hands on to whom is its own matter.
        for name in settings:
            key = f"{place}.{name}"
            # The name of an algorithm is for tables.
            if name in parameters or name in _HYDRAS or key == "algo.name":
                continue
            is_ours = allowed(key, config, config_name) is not None or key in defaults_of_ours()
            if not (passes_on and is_ours):
                known = [one for one in (*settings, *parameters) if one != name]
                raise UserError(f"{key}: {target} takes no such setting{did_you_mean(name, known)}")


def _parameters(target: str) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of a function or class; None where they can't be read, as of some of C, and of a
    class that says nothing of them: what it lacks besides is told where it is used."""
    try:
        called = get_object(present_name(target))
        bases = called.__mro__[:-1] if isinstance(called, type) else ()
        if bases and not any("__init__" in vars(base) for base in bases):
            return None
        return inspect.signature(called).parameters
    except (ImportError, TypeError, ValueError):
        return None


def _with_targets(tree: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what is called with settings, at any depth, by its place."""
    if isinstance(tree, dict):
        if isinstance(tree.get("_target_"), str) and "${" not in tree["_target_"]:
            yield place, tree
        for name, value in tree.items():
            yield from _with_targets(value, f"{place}.{name}" if place else name)


def _own_keys(config_name: str, folders: list[Path]) -> set[str]:
    """The keys of the command itself, which all its configurations have: those below no group."""
    config, chosen = composed(config_name, [], folders)
    return {key for key in leaves(config) if key.split(".")[0] not in chosen}


def _surplus(
    config_name: str, config: dict[str, Any], chosen: Chosen, folders: list[Path]
) -> set[str]:
    """What an experiment sets that the choices, its own or those taken in their place, don't
    have."""
    if chosen.get("experiment") is None:
        return set()
    others = [
        f"{group}={choice}"
        for group, choice in chosen.items()
        if isinstance(choice, str) and group != "experiment"
    ]
    return leaves(config).keys() - leaves(composed(config_name, others, folders)[0]).keys()


def _check_experiment(
    chosen: Chosen,
    values: list[Override],
    surplus: set[str],
    config_name: str,
    folders: list[Path],
) -> None:
    """Checks that what an experiment sets too much is taken away by `~key`. To its own choices it
    may add keys, such as the name of an algorithm, but not put a value in their place."""
    removed = {override.key_or_group for override in values if override.is_delete()}
    if not (left := sorted(surplus - removed)):
        return
    own = composed(config_name, [f"experiment={chosen['experiment']}"], folders)[1]
    for key in left:
        group = key.split(".")[0]
        if key not in own and chosen.get(group) == own.get(group):
            continue
        raise UserError(
            f"experiment={chosen['experiment']} sets {key}, which {group}={chosen.get(group)} does "
            "not have: "
            f"say '~{key}' to leave it out"
        )


def _check_known_on_resume(override: Override, config: dict[str, Any]) -> None:
    """Raises: UserError for a key that the defaults don't have: the run may have chosen otherwise,
    but can't change it."""
    key: str = override.key_or_group
    if key not in leaves(config) and not may_change(key):
        raise UserError(CANT_CHANGE.format(key))


def _raise_unknown(override: Override, parent: str, siblings: Any, config: dict[str, Any]) -> None:
    key = override.key_or_group
    if not isinstance(siblings, dict):
        raise UserError(f"{key}: {parent} is a single value ({shown(siblings)}) and has no keys")
    names = [f"{parent}.{name}" if parent else name for name in siblings]
    elsewhere = [name for name in leaves(config) if name.split(".")[-1] == key.split(".")[-1]]
    hint = f"; did you mean {elsewhere[0]}?" if elsewhere else did_you_mean(key, names)
    if key.endswith("._target_"):
        hint = (
            f"; where a checkpoint calls code of your own, +{override.input_line} names it, or a config of "
            "--config-dir does"
        )
    whose = f"{parent} has" if parent else "the keys are"
    raise UserError(
        f"{key}: there is no such key{hint}\n{whose}: "
        f"{', '.join(sorted(name for name in siblings if not name.startswith('_')))}"
    )


def _check_required(config: dict[str, Any], given: set[str], meaning: dict[str, str]) -> None:
    for key, value in leaves(config).items():
        if value == "???" and key not in given:
            raise UserError(f"{key}=... is missing: {meaning.get(key, 'it has no default')}")


def _values(override: Override, names_allowed: list[str] | None = None) -> list[Any]:
    """The values of an override: one, or several in a sweep; none where only the sweeper knows them
    (interval).

    Args: names_allowed: the names that a glob(...) chooses from.
    """
    if override.is_delete():
        return []
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(names_allowed or [])
    if not override.is_sweep_override():
        return [value]
    if not override.is_choice_sweep() and not override.is_range_sweep():
        return []
    return [
        value.text if isinstance(value, QuotedString) else value
        for value in override.sweep_iterator()
    ]


def _as_single_choices(group: Override, folders: list[Path]) -> list[str]:
    if not group.is_sweep_override():
        return [str(group.input_line)]
    return [
        f"{group.get_key_element()}={shown(value)}"
        for value in _values(group, choices(group.key_or_group, folders))
    ]


def _as_single_value(override: Override) -> str | None:
    """The override with the first of its values; None where only the sweeper knows them."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if not override.is_choice_sweep() and not override.is_range_sweep():
        return None
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
