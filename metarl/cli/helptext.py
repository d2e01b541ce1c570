"""The text of --help, read from where the facts are: the script's docstring, the config folder and
the YAML comments."""

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from metarl.cli.configs import choices, comments, composed, leaves, shown
from metarl.cli.overrides import check_overrides

_FLAGS = """\
  --cfg job            print the configuration and stop
{}  --config-dir FOLDER  a folder with configs of your own, laid out as configs/
  --help               this text{}
"""
_OF_GROUPS = "; with group=choice, the keys of that choice too"
_SWEEP = "  -m, --multirun       a run for each of several values: -m seed=0,1,2\n"


def help_text(config_name: str, docstring: str, overrides: list[str], folders: list[Path]) -> str:
    """What the command does, its words with their defaults, the choices of each group, and the keys
    of groups in `overrides`."""
    check_overrides(config_name, overrides, folders, sweep=True, required=False)
    config, chosen = composed(config_name, _groups_only(overrides, folders), folders)
    meaning = comments(config_name, chosen, folders)
    words = {key: value for key, value in config.items() if key not in chosen}
    groups = dict(reversed(chosen.items()))  # Hydra lists the defaults last to first.
    parts = [
        f"Usage: {_command()} [name=value ...]",
        docstring.strip(),
        "Settings, with their defaults:\n" + _entries(words, meaning),
    ]
    if groups:
        listed = {group: _listed(group, meaning, folders, config_name) for group in groups}
        parts.append(
            "Groups, with their defaults:\n"
            + "".join(_entry(group, groups[group], text) for group, text in listed.items())
        )
    asked = [
        group
        for group in groups
        if any(text.lstrip("+").startswith(f"{group}=") for text in overrides)
    ]
    for group in asked:
        parts.append(
            f"Keys of {group}={chosen[group]}:\n"
            + _entries({group: config.get(group, {})}, meaning)
        )
    if groups and not asked:
        group = "algo" if "algo" in groups else next(iter(groups))
        parts.append(
            f"The keys of a choice: {_command()} {group}={choices(group, folders)[0]} --help"
        )
    flags = _FLAGS.format(_SWEEP if "seed" in words else "", _OF_GROUPS if groups else "")
    return "\n\n".join(part.rstrip() for part in [*parts, "Flags:\n" + flags])


def _groups_only(overrides: list[str], folders: list[Path]) -> list[str]:
    return [text for text in overrides if choices(text.lstrip("+").split("=")[0], folders)]


def _listed(group: str, meaning: dict[str, str], folders: list[Path], config_name: str) -> str:
    return "; ".join(
        filter(
            None,
            [
                meaning.get(f"defaults.{group}"),
                "one of " + ", ".join(choices(group, folders, config_name)),
            ],
        )
    )


def _entries(config: dict[str, Any], meaning: dict[str, str]) -> str:
    return "".join(
        _entry(key, value, meaning.get(key, ""))
        for key, value in leaves(config).items()
        if not key.split(".")[-1].startswith("_")  # Hydra's own
    )


def _entry(name: str, default: Any, text: str) -> str:
    """`name=default` in a column, `text` wrapped beside it, or below it in a narrow terminal."""
    left, width = f"  {name}={shown(default)}", min(shutil.get_terminal_size().columns, 120)
    column = 40 if width >= 70 else 6
    lines = textwrap.wrap(text, max(width - column, 20)) or [""]
    if len(left) + 2 > column:
        lines, left = [left, *lines], ""
    else:
        lines[0] = f"{left:<{column}}{lines[0]}"
    return f"\n{' ' * column}".join(lines).rstrip() + "\n"


def _command() -> str:
    return f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name
