"""One variant of a MuJoCo environment is one row of a table; here is what a row says, and how an
environment is made of it.

A user's own variant is a row, too. This one, in a module my_envs.py on Python's path, is
`envs.make("my_envs:fast_cheetah", 80)`:

    usual = half_cheetah.VARIANTS["half_cheetah_vel"]
    fast_cheetah = replace(usual, tasks=partial(velocities, 9.0), horizon=400)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mujoco
import torch

from envs.machine import Machine
from envs.mujoco.env import MDP, Drive, Effects, LinearDrive, MujocoEnv
from envs.mujoco.models import Model
from envs.sim.backends import simulator
from envs.variants import (
    check_counts,
    common_settings,
    spec_of,
    task_distribution,
    with_common_settings,
)
from metarl.errors import SettingError


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Holds everything that defines an environment, except its name. Meets `envs.variants.Row`."""

    family: str
    """Variants of one family have one kind of tasks, for instance half_cheetah_vel."""
    model: Model
    """The file with the physics."""
    mdp: Callable[[mujoco.MjModel, float], MDP[Any, Any]]
    """(model, control step in s) -> start, observation, reward and end of an episode."""
    tasks: Callable[..., Any]
    """(num_train_tasks, num_test_tasks) -> the distribution of tasks; () -> it, where
    num_test_tasks is None."""
    horizon: int
    """Control steps in an episode."""
    action_scale: float
    """The action space is [−action_scale, action_scale]; see `MujocoEnv`."""
    frame_skip: int
    """Physics steps in a control step."""
    num_train_tasks: int | None = None
    """The size of the fixed training set; None: training draws a new task each time."""
    num_test_tasks: int | None = None
    """How many tasks are held out; None: the tasks are so few that they are listed, and their
    number is no setting."""
    fields: tuple[str, ...] = ()
    """The derived data fields that `mdp` and `drive` read, for instance cfrc_ext."""
    current_fields: bool = False
    """True: `fields` are those of the end of a control step, for which the dynamics are evaluated
    once more. False: they are one physics step old."""
    drive: Callable[[mujoco.MjModel], Drive] | None = None
    """How control moves the actuators; None: linearly over the range of each."""
    effects: Effects[Any] | Callable[[mujoco.MjModel], Effects[Any]] = field(
        default_factory=Effects
    )
    """What a task does besides the reward; or model -> that, where it needs the model."""
    own_settings: Mapping[str, "Setting"] = field(default_factory=dict)
    """Settings that other variants don't have."""
    definition: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the problem's definition (JSON values), which neither the other fields nor
    `MDP.definition` hold."""

    def __post_init__(self) -> None:
        check_counts(self)
        if self.frame_skip < 1:
            raise SettingError(
                f"frame_skip is {self.frame_skip}; expected at least one physics step in a control "
                "step"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that can be overridden, and their defaults."""
        return {
            **common_settings(self),
            **{name: setting.default for name, setting in self.own_settings.items()},
        }

    def make(
        self, name: str, num_worlds: int, machine: Machine, **overrides: Any
    ) -> MujocoEnv[Any]:
        """W = num_worlds worlds of this variant, called `name`. Each override is one of
        `settings`."""
        row = with_common_settings(self, overrides)
        for key, setting in self.own_settings.items():
            row = setting.apply(row, overrides.get(key, setting.default))
        return _environment(row, name, num_worlds, machine)


@dataclass(frozen=True)
class Setting:
    """A setting that one variant alone has."""

    default: Any
    apply: Callable[[Variant, Any], Variant]
    """(row, value) -> the row with this value. Raises: ValueError for a value out of range."""


def _environment(row: Variant, name: str, num_worlds: int, machine: Machine) -> MujocoEnv[Any]:
    tasks, model = task_distribution(row), row.model.load()
    mdp = row.mdp(model, model.opt.timestep * row.frame_skip)
    effects = row.effects if isinstance(row.effects, Effects) else row.effects(model)
    sim = simulator(
        machine,
        model,
        num_worlds,
        per_world=effects.per_world,
        fields=row.fields,
        current_fields=row.current_fields,
    )
    definition = {
        "model": row.model.name,
        "physics_step": sim.timestep,
        "frame_skip": row.frame_skip,
        "action_scale": row.action_scale,
        "obs_size": mdp.obs_size,
        **mdp.definition,
        **row.definition,
    }
    spec = spec_of(name, row.family, row.horizon, tasks, definition)
    control_range = torch.tensor(model.actuator_ctrlrange)
    return MujocoEnv(
        spec=spec,
        sim=sim,
        mdp=mdp,
        tasks=tasks,
        drive=row.drive(model) if row.drive else LinearDrive(control_range),
        frame_skip=row.frame_skip,
        action_scale=row.action_scale,
        effects=effects,
        device=machine.device,
        graphs=machine.graphs,
    )
