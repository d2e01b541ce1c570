"""config.yaml in the folder of a run: all settings, and what they don't say of how they came about."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from metarl.cli import origins, resumed_config, strangers
from metarl.cli.configs import as_dict, leaves
from metarl.cli.words import called
from metarl.errors import UserError

FOLLOWED_IN_OLD_CHECKPOINTS = ["learner.decay_iterations"]
"""What was `${iterations}` in our configs when checkpoints didn't say it yet."""

_COMPOSED = "composed"
"""The key of config.yaml that tells of the configuration what its values don't."""


def as_yaml(
    config: DictConfig,
    choices: Mapping[str, Any],
    commands: Sequence[str],
    commits: Sequence[str] = (),
) -> str:
    """The file's text. Args: choices: of the config's groups; commands: see `made_by`; commits: see
    `commits`."""
    composed = {
        "choices": dict(choices),
        "follow_iterations": origins.follow_iterations(config),
        # Not to be filled in: words may have the ${...} that the settings had.
        "commands": [re.sub(r"(\\*)\$\{", r"\1\1\\${", command) for command in commands],
        "commits": list(commits),
    }
    return OmegaConf.to_yaml(
        OmegaConf.create(as_dict(config, resolve=True) | {_COMPOSED: composed})
    )


def choices_in(path: Path) -> dict[str, Any]:
    """The choices of the groups that a config.yaml tells; none where it tells none or is gone."""
    chosen = _composed(path).get("choices")
    return dict(chosen) if isinstance(chosen, dict) else {}


def made_by(path: Path) -> list[str]:
    """The commands that make a run, to be copied into a shell: what began it, as its config.yaml
    tells, then each by which it went on with a change, the present one too. Where the file tells
    none, the present one; but what began a run of several seeds also began each."""
    now, before = called(), _commands(path)
    if not before and re.fullmatch(r"seed\d+", path.parent.name):
        before = _commands(path.parent.parent / path.name)
    if not before or now == before[-1]:
        return before or [now]
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    changes = any(not word.lstrip("+").startswith("resume=") for word in words)
    return [*before, now] if changes else before


def commits(path: Path) -> list[str]:
    """The commits of metarl that have made a run, one after the other, as its config.yaml tells; the
    last one is the present one, where that is known."""
    found, now = _composed(path).get("commits"), origins.commit()
    before = [str(commit) for commit in found] if isinstance(found, list) else []
    return before if now is None or before[-1:] == [now] else [*before, now]


def edited(path: Path, config: dict[str, Any]) -> list[str]:
    """The keys of a config.yaml whose values aren't those of the run's newest checkpoint, without
    what a run may change on its way; ["all of it"] where it can't be read."""
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        told, saved = (leaves(tree) for tree in (plain, config))
    except FileNotFoundError:
        return []
    except Exception:  # of the parser, or of what it was given
        return ["all of it"]
    return [
        key
        for key in told.keys() & saved.keys()
        if told[key] != saved[key] and not resumed_config.may_change(key)
    ]


def numbers(path: Path, keys: Sequence[str]) -> dict[str, int]:
    """The whole numbers of these keys in a config.yaml, as far as it can be read."""
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # of the parser, or of what it was given
        return {}
    settings = plain if isinstance(plain, dict) else {}
    return {key: settings[key] for key in keys if isinstance(settings.get(key), int)}


def _commands(path: Path) -> list[str]:
    found = _composed(path).get("commands")
    kept = found if isinstance(found, list) else []
    return [re.sub(r"(\\*)\1\\\$\{", r"\1${", str(command)) for command in kept]


def _composed(path: Path) -> dict[str, Any]:
    """What a config.yaml tells beside the settings; nothing where it is damaged or gone."""
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        found = plain[_COMPOSED]
    except Exception:  # of the parser, or of what it was given
        return {}
    return dict(found) if isinstance(found, dict) else {}


def read(path: Path, groups: tuple[str, str]) -> tuple[DictConfig, dict[str, Any], list[str]]:
    """The configuration that `as_yaml` wrote, the choices of its groups, and what follows
    `iterations`.

    Raises: UserError if it is damaged, or another command's.
    """
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # of the parser, or of what it was given
        raise UserError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(plain, dict) or not all(
        group in plain for group in (*groups, "iterations", "seed")
    ):
        raise UserError(
            f"{path} isn't the configuration of such a run: expected {groups[0]}, {groups[1]}, "
            "iterations, seed"
        )
    with strangers.blamed_on(path, _COMPOSED):
        composed = plain.pop(_COMPOSED, {})
        chosen, follow = (
            composed.get("choices", {}),
            composed.get("follow_iterations", FOLLOWED_IN_OLD_CHECKPOINTS),
        )
        strangers.check_words(
            [choice for choice in chosen.values() if isinstance(choice, str)], "choices"
        )
        strangers.check_words(follow, "follow_iterations")
    config = strangers.checked(plain, path, "fewshot" if "dataset" in groups else "train")
    # The first versions didn't write the choices.
    unnamed = str(config[groups[1]].get("_target_")).rpartition(".")[2]
    return config, {groups[1]: unnamed, **chosen}, follow
