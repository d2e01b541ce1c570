"""Decides where a training computes: `sim=auto` and `device=auto` become what is faster for its
sizes, and a line says what and why.

The limits are rules of thumb, until there are measurements: a GPU needs work for some thousands of
threads at once to be faster than the cores beside it.
"""

import sys
from importlib.util import find_spec

import torch
from omegaconf import DictConfig, OmegaConf

import envs
from metarl.cli import build
from metarl.errors import SettingError

LEAST_WORLDS = 4096
"""The number of worlds from which on MuJoCo Warp on a GPU is faster than the C engine."""
LEAST_STEPS = 20_000
"""The steps of one rollout from which on a learner on a GPU is faster than on CPUs."""


def settle(config: DictConfig) -> torch.device:
    """Writes the simulator into the config where it says auto. Returns the learner's device.

    Raises: UserError for a device that isn't there, or a simulator that can't compute there.
    """
    worlds = build.sizes(config).num_worlds * config.num_seeds
    device = build.device(config.device)
    steps = worlds * _horizon(config)
    small = config.device == "auto" and config.sim.backend != "warp" and steps < LEAST_STEPS
    if small and device.type == "cuda":
        device = torch.device("cpu")
        _say(f"device=auto: cpu, as a rollout has {steps} steps; a GPU pays from {LEAST_STEPS} on")
    if config.sim.backend == "auto":
        reason = _why_not_warp(config.env.name, worlds, device)
        chosen = "cpu" if reason else "warp"
        OmegaConf.update(config, "sim.backend", chosen)
        _say(f"sim=auto: {chosen}, as {reason or f'{worlds} worlds step faster on the GPU'}")
    elif config.sim.backend == "warp" and device.type == "cpu":
        _say("sim=warp device=cpu is for tests: sim=cpu is many times faster there")
    return device


def described(config: DictConfig, device: torch.device) -> str:
    """What a training computes on, for the console: `sim cpu, device cuda (NVIDIA H100)`."""
    return (
        f"sim {config.sim.backend}, device {device}{f' ({name})' if (name := _gpu(device)) else ''}"
    )


def provenance(config: DictConfig, device: torch.device) -> dict[str, str]:
    """What a checkpoint says of it."""
    return {"sim": config.sim.backend, "device": _gpu(device) or str(device)}


def _why_not_warp(name: str, worlds: int, device: torch.device) -> str | None:
    """The reason against MuJoCo Warp; None if it is faster."""
    if device.type != "cuda":
        return "the learner is on no GPU"
    if not envs.has_physics(name):
        return f"{name} has no physics"
    if worlds < LEAST_WORLDS:
        return f"{worlds} worlds are few; a GPU pays from {LEAST_WORLDS} on"
    if find_spec("mujoco_warp") is None:
        return "MuJoCo Warp isn't installed (pip install 'metarl[warp]')"
    from envs.sim.warp_device import warp_device

    try:
        warp_device(device)
    except SettingError as error:
        return str(error)
    return None


def _horizon(config: DictConfig) -> int:
    given = config.env.get("horizon")
    return int(envs.overridable(config.env.name).get("horizon", 1) if given is None else given)


def _gpu(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def _say(line: str) -> None:
    print(line, file=sys.stderr)
