"""Checks what the user typed against the configs, so that a mistake is answered in a line with what is allowed.

An override is `group=choice`, a file of the folder configs/group, or `key=value` of the composed configuration, where the
value must have the type of the default. `null` needs a default of null, or a comment in the YAML that says what null means.
"""

import difflib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString
from hydra.errors import HydraException

from metarl._scripts.configs import Chosen, choices, comments, composed, leaves, shown
from metarl.errors import UserError


def check_overrides(
    config_name: str, overrides: list[str], folders: list[Path], *, sweep: bool = False, required: bool = True
) -> None:
    """Checks every override; in a sweep (-m) every value of it under every combination of groups.

    Args:
      folders: the search path, see configs.py.
      required: also ask for the values that have no default (`???`).
    Raises: UserError naming the override, what is allowed, and the closest allowed name.
    """
    parsed = [override for override in map(_parse, overrides) if not override.is_hydra_override()]
    for override in parsed:
        if override.is_sweep_override() and not sweep:
            key, value = override.key_or_group, str(override.input_line).split("=", 1)[1]
            raise UserError(
                f"{key}={value}: several values need -m (a run for each); a list is written {key}=[{value}]"
            )
    groups = [override for override in parsed if choices(override.key_or_group, folders)]
    values = [override for override in parsed if override not in groups]
    _check_groups(config_name, groups, folders)
    for combination in itertools.product(*(_as_single_choices(group, folders) for group in groups)):
        try:
            config, chosen = composed(config_name, list(combination), folders)
        except HydraException:
            return  # The YAML files don't fit together: Hydra, which composes next, explains that in full.
        meaning = comments(config_name, chosen, folders)
        for override in values:
            _check_value(override, config, meaning)
        _check_experiment(config_name, config, chosen, values, folders)
        if required:
            _check_required(config, {override.key_or_group for override in values}, meaning)


def _parse(text: str) -> Override:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{text}: not of the form name=value ({reason}); quote what is special: 'name=\"a, b\"'"
        ) from None


def _check_groups(config_name: str, groups: Iterable[Override], folders: list[Path]) -> None:
    """That each group has a config of the name chosen, and belongs to this command."""
    for override in groups:
        group, allowed = override.key_or_group, choices(override.key_or_group, folders, config_name)
        values = _values(override, allowed)
        names = [name for value in values for name in (value if isinstance(value, list) else [value])]
        if override.is_sweep_override() and not names:
            raise UserError(f"{override.input_line}: fits no {group}\n{group} is one of: {', '.join(allowed)}")
        for name in names:
            if name is not None and str(name) not in allowed:
                if str(name) in choices(group, folders):
                    raise UserError(
                        f"{group}={name} is of another command; of {config_name}, {group} is one of: {', '.join(allowed)}"
                    )
                suggestion = _did_you_mean(str(name), allowed)
                raise UserError(
                    f"{group}={name}: there is no {group} of that name.{suggestion}\n{group} is one of: {', '.join(allowed)}"
                )
        known = composed(config_name, [], folders)[1]
        if group not in known and not override.is_add():
            raise UserError(
                f"{override.input_line}: {config_name} has no {group}. Its groups are: {', '.join(sorted(known))}"
            )


def _check_value(override: Override, config: dict[str, Any], meaning: dict[str, str]) -> None:
    """That the key exists and the value has the type of its default."""
    if override.is_add():
        return  # `+key=value`: the user says that the key is new.
    key = override.key_or_group
    default: Any = config
    for depth, part in enumerate(key.split(".")):
        if not isinstance(default, dict) or part not in default:
            _raise_unknown(override, ".".join(key.split(".")[:depth]), default, config)
        default = default[part]
    if override.is_delete() or (isinstance(default, str) and (default == "???" or "${" in default)):
        return
    can_be_null = default is None or "null" in meaning.get(key, "")
    for value in _values(override):
        if not (value is None and can_be_null) and not _fits(value, default):
            expected = _kind(default) + (" or null" if can_be_null else "")
            raise UserError(f"{key}={shown(value)}: expected {expected}; the default is {shown(default)}")


def _check_experiment(
    config_name: str, config: dict[str, Any], chosen: Chosen, values: list[Override], folders: list[Path]
) -> None:
    """That what an experiment sets exists in the choices taken in place of its own, or is taken away by `~key`."""
    experiment = chosen.get("experiment")
    if experiment is None:
        return
    others = [
        f"{group}={choice}" for group, choice in chosen.items() if isinstance(choice, str) and group != "experiment"
    ]
    without = leaves(composed(config_name, others, folders)[0])
    removed = {override.key_or_group for override in values if override.is_delete()}
    surplus = sorted(leaves(config).keys() - without.keys() - removed)
    if surplus:
        key = surplus[0]
        group = key.split(".")[0]
        raise UserError(
            f"experiment={experiment} sets {key}, which {group}={chosen.get(group)} does not have: say '~{key}' to leave it out"
        )


def _raise_unknown(override: Override, parent: str, siblings: Any, config: dict[str, Any]) -> None:
    key = override.key_or_group
    if not isinstance(siblings, dict):
        raise UserError(f"{key}: {parent} is a single value ({shown(siblings)}) and has no keys")
    names = [f"{parent}.{name}" if parent else name for name in siblings]
    elsewhere = [name for name in leaves(config) if name.split(".")[-1] == key.split(".")[-1]]
    suggestion = f" Did you mean {elsewhere[0]}?" if elsewhere else _did_you_mean(key, names)
    whose = f"{parent} has" if parent else "the keys are"
    raise UserError(
        f"{key}: there is no such key.{suggestion}\n{whose}: {', '.join(sorted(name for name in siblings if not name.startswith('_')))}"
    )


def _check_required(config: dict[str, Any], given: set[str], meaning: dict[str, str]) -> None:
    for key, value in leaves(config).items():
        if value == "???" and key not in given:
            raise UserError(f"{key}=... is missing: {meaning.get(key, 'it has no default')}")


def _fits(value: Any, default: Any) -> bool:
    """Whether the value has the default's type; an int is a float, too, and `${...}` may become anything."""
    if default is None or (isinstance(value, str) and "${" in value):
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, list):
        return isinstance(value, list) and all(_fits(entry, default[0]) for entry in value if default)
    return isinstance(value, (int, float)) if isinstance(default, float) else isinstance(value, type(default))


def _kind(default: Any) -> str:
    if isinstance(default, list):
        return f"a list with {_kind(default[0])} at each place" if default else "a list"
    return {bool: "true or false", int: "an integer", float: "a number", str: "a word", dict: "keys and values"}[
        type(default)
    ]


def _values(override: Override, allowed: list[str] | None = None) -> list[Any]:
    """The values of an override: one, or several in a sweep; none where only the sweeper knows them (interval).

    Args:
      allowed: the names that a glob(...) chooses from.
    """
    if override.is_delete():
        return []
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(allowed or [])
    if not override.is_sweep_override():
        return [value]
    if not override.is_choice_sweep() and not override.is_range_sweep():
        return []
    return [value.text if isinstance(value, QuotedString) else value for value in override.sweep_iterator()]


def _as_single_choices(group: Override, folders: list[Path]) -> list[str]:
    if not group.is_sweep_override():
        return [str(group.input_line)]
    return [
        f"{group.get_key_element()}={shown(value)}" for value in _values(group, choices(group.key_or_group, folders))
    ]


def _did_you_mean(name: str, allowed: list[str]) -> str:
    closest = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f" Did you mean {closest[0]}?" if closest else ""
