"""What a checkpoint or a result says of where it comes from: the problem, the settings, the code
and the versions of the libraries."""

import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import metarl
from metarl.cli import own_code
from metarl.cli.configs import as_dict
from metarl.rl import absent_env
from metarl.rl.types import BatchedEnv


def provenance(config: DictConfig, env: BatchedEnv) -> dict[str, Any]:
    """What every checkpoint carries: the problem and what its agent sees and does, the settings, the
    code and the library versions."""
    return {
        "env": env.spec.name,
        "variant": env.spec.variant,
        **env.spec.hashes,
        "interface": absent_env.packed(env),
        **origin(config),
    }


def origin(config: DictConfig) -> dict[str, Any]:
    """The settings, the code and the library versions."""
    plain = as_dict(config, resolve=True)
    return {
        "config": plain,
        "follow_iterations": follow_iterations(config),
        **own_code.told(plain),
        "commit": commit(),
        "versions": versions(),
    }


def changes_since(content: Mapping[str, Any]) -> str | None:
    """What of the code and the libraries isn't as it was when a checkpoint was written, in words;
    None if all is."""
    then, now = content.get("commit"), commit()
    found = []
    if then is not None and now is not None and then != now:
        found.append(f"metarl's commit (then {then}, now {now})")
    present, before = versions(), content.get("versions")
    for name, version_then in (before if isinstance(before, Mapping) else {}).items():
        if name in present and present[name] != version_then:
            found.append(f"{name} (then {version_then}, now {present[name]})")
    return f"changed since the checkpoint: {', '.join(found)}" if found else None


def follow_iterations(config: DictConfig) -> list[str]:
    """The keys whose value is `${iterations}`, such as where a schedule ends: a resume with more
    iterations moves them, too."""
    found: list[str] = []

    def search(tree: Any, prefix: str = "") -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                search(value, f"{prefix}{key}.")
            elif value == "${iterations}":
                found.append(f"{prefix}{key}")

    search(as_dict(config, resolve=False))
    return found


def commit() -> str | None:
    """The commit of metarl's own checkout, `-dirty` if files differ from it; None if metarl doesn't
    run from a checkout.

    A virtual environment may lie in the checkout of another project, whose commit says nothing
    about us.
    """
    return commit_in(Path(metarl.__file__).resolve().parents[1])


@cache  # A command asks several times, and the code that it runs stays what it has read.
def commit_in(root: Path) -> str | None:
    """`commit`, of a metarl in this folder."""
    ours = ("metarl/__init__.py", "pyproject.toml")
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return None
        # An error if the repository doesn't know them
        _git(root, "ls-files", "--error-unmatch", *ours)
        if (
            tomllib.loads((root / ours[1]).read_text("utf-8")).get("project", {}).get("name")
            != "metarl"
        ):
            return None
        return _git(root, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.SubprocessError, tomllib.TOMLDecodeError):
        return None


_OF_A_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)
"""What git sets for the hooks of a repository, and would send us to that one."""


def _git(folder: Path, *words: str) -> str:
    environment = {
        name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY
    }
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10, env=environment
    )
    return done.stdout.strip()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    optional = {"mujoco_warp": "mujoco-warp", "warp": "warp-lang"}  # named if they computed here
    used = [package for module, package in optional.items() if module in sys.modules]
    for package in ("metarl", "torch", "mujoco", "gymnasium", "numpy", *used):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
