"""MuJoCo environments: an MDP says what is seen and paid, a simulator moves, and `MujocoEnv` makes
the two a BatchedEnv.

An MDP is array functions over W worlds of a Simulator, so the same file serves every simulator
back-end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.episodes import Episodes, check_action_scale
from envs.mujoco.render import Mark, View, WorldRenderer
from envs.sim.types import Simulator
from metarl.rl.spec import EnvSpec
from metarl.rl.types import BatchedEnv, FixedSpeeds, References, Step, TaskDistribution
from metarl.struct import map_tensors
from metarl.threads import on_one_thread

Tasks = TypeVar("Tasks")
TasksTaken = TypeVar("TasksTaken", contravariant=True)
Measured = TypeVar("Measured")


class MDP(Protocol[TasksTaken, Measured]):
    """Decides start, observation, reward and end of an episode. It holds constants only, and no
    state of any world.

    An MDP that inherits from it needn't say that there are no constants to move, or that episodes
    never end before the time limit.
    """

    camera: str | View
    """The camera that pictures are taken with: the name of one in the model, or a view of our own.
    It follows the body."""
    definition: Mapping[str, Any]
    """The part of the problem's definition that this class decides (JSON values): reward, start
    noise, ..."""
    obs_size: int
    num_uniforms: int
    """Uniform numbers that one start takes."""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves the constants that steps need to where the simulator's tensors are, in their type
        of numbers. Called once, before the first start."""
        return

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Returns qpos [W, nq] and qvel [W, nv] of starts, from uniform numbers [W, num_uniforms]
        in [0, 1), float64. It computes where these lie, so that every simulator has the same."""
        ...

    def measure(self, sim: Simulator) -> Measured:
        """Returns what `reward` compares before and after a step, for instance x [W]; `observe` may
        show it. Called once after each step and reset. Return copies, because the simulator's
        tensors change in place; or None where nothing is needed."""
        ...

    def observe(self, sim: Simulator, now: Measured) -> Tensor:
        """Returns the observations [W, O], of any float type, in memory of their own."""
        ...

    def reward(
        self, before: Measured, now: Measured, sim: Simulator, control: Tensor, tasks: TasksTaken
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the reward [W] of a step and its named terms [W]. control [W, A] in [−1, 1] is
        what acted: the action, in its own float type, after scaling and clipping, and after
        `Effects.actuate`."""
        ...

    def terminated(self, sim: Simulator) -> Tensor | None:
        """Returns [W] bool, whether the episode failed or reached its end; None if that never
        happens before the time limit."""
        return None


class Drive(Protocol):
    """Moves the actuators by the control. It holds constants only, and no state of any world."""

    num_controls: int

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves the constants, as `MDP.to` does."""
        ...

    def __call__(self, sim: Simulator, control: Tensor) -> None:
        """Writes `sim.ctrl` [W, nu] from control [W, num_controls] in [−1, 1]."""
        ...


class LinearDrive:
    """Moves one actuator by each control, linearly over the actuator's range [nu, 2]."""

    def __init__(self, control_range: Tensor) -> None:
        self.num_controls = len(control_range)
        self._middle = control_range.mean(1)
        self._half = (control_range[:, 1] - control_range[:, 0]) / 2
        self._is_identity = bool((self._middle == 0).all() and (self._half == 1).all())

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self._middle = self._middle.to(device, dtype)
        self._half = self._half.to(device, dtype)

    def __call__(self, sim: Simulator, control: Tensor) -> None:
        if self._is_identity:
            sim.ctrl.copy_(control)
        else:
            torch.addcmul(self._middle, control.to(self._half), self._half, out=sim.ctrl)


@dataclass(frozen=True, kw_only=True)
class Effects(Generic[Tasks]):
    """Holds what a task does besides the reward: what it changes, how it shows in a picture, and
    what is known of it."""

    actuate: Callable[[Tensor, Tasks, Tensor], Tensor] | None = None
    """(control [W, A] after scaling, tasks, num_steps [W] taken so far in the episode) -> the
    control that acts. For tasks that change the actuators."""
    place: Callable[[Tensor, Tasks], Tensor] | None = None
    """(qpos [W, nq] of the start, tasks) -> qpos with the task's things in their places. For tasks
    that move things."""
    set_physics: Callable[[Simulator, Tensor, Tasks], None] | None = None
    """(sim, worlds [W] bool, tasks) writes the model fields of those worlds before they start. For
    tasks that change the physics."""
    per_world: tuple[str, ...] = ()
    """The model fields that `set_physics` writes."""
    marks: Callable[[Any, Tasks], list[Mark]] | None = None
    """(data of a world, its task with leaves [...]) -> the marks that show the task in a
    picture."""
    scripted: Callable[[Simulator, Tasks], Tensor] | None = None
    """(sim, tasks) -> the actions [W, A] of a controller that sees the task and the true state."""
    known_returns: Callable[[Tasks], dict[str, Tensor]] | None = None
    """tasks -> returns of an episode on each task that calculation tells, by name, [N] each."""
    fixed_speeds: FixedSpeeds | None = None
    """What it pays to hold a velocity. For tasks that are velocities."""


class MujocoEnv(BatchedEnv[Tasks]):
    """W worlds of one MDP in one simulator. Observations are float32, physics is the simulator's.

    An action a is scaled and clipped to control = clip(a / action_scale, −1, 1), with which `drive`
    moves the actuators. A world that blows up ends: terminated, diverged, reward 0, next_obs 0.

    Args:
      drive: moves the actuators; `LinearDrive` moves each over its range.
      frame_skip: physics steps in a control step.
      action_scale: the half-width of the action space; a policy with standard deviation 1 explores
        1 / action_scale of the range. Published results differ in it (1 or 10), so it belongs to
        the variant.
      effects: what a task does besides the reward.
      device: of all tensors that go in and out.
      graphs: steps may be recorded as CUDA graphs, where the simulator is on such a device.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        sim: Simulator,
        mdp: MDP[Tasks, Any],
        tasks: TaskDistribution[Tasks],
        drive: Drive,
        frame_skip: int,
        action_scale: float,
        effects: Effects[Tasks],
        device: torch.device | str = "cpu",
        graphs: bool = False,
    ) -> None:
        check_action_scale(action_scale)
        self.spec = spec
        self.prior = tasks
        self.sim = sim
        self.mdp = mdp
        self.num_worlds = sim.num_worlds
        self.device = torch.device(device)
        self.frame_skip = frame_skip
        self.control_step = sim.timestep * frame_skip  # s
        self._action_scale = float(action_scale)
        self._drive = drive
        self._effects = effects
        size = (drive.num_controls,)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (mdp.obs_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            -self._action_scale, self._action_scale, size, np.float32
        )
        self.num_uniforms = mdp.num_uniforms
        self._episodes = Episodes(self, sim.ctrl.device)
        self._measured: Any = None  # in the present state
        self._control: Any = None  # [W, A] that acts, between `apply` and `outcome`
        for part in (mdp, drive):
            part.to(sim.qpos.device, sim.qpos.dtype)
        self._renderer = WorldRenderer(camera=mdp.camera)
        self.graphs = [] if graphs and sim.device.type == "cuda" else None

    @property
    def references(self) -> References[Tasks]:
        scripted, known = self._effects.scripted, self._effects.known_returns
        speeds = self._effects.fixed_speeds
        return References(
            stand_still=lambda: torch.zeros(
                self.num_worlds, *self.action_space.shape, device=self.device
            ),
            scripted=scripted
            and (lambda: scripted(self.sim, self._episodes.tasks).to(self.device)),
            known_returns=lambda tasks, num_episodes: known(tasks) if known else {},
            fixed_speeds=speeds and speeds.over(self.spec.horizon),
        )

    def set_tasks(self, tasks: Tasks) -> None:
        self._episodes.set_tasks(tasks)

    @on_one_thread
    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        self.sim.check()
        worlds = self._episodes.begin(uniform, worlds)
        if self._effects.set_physics is not None:
            self._effects.set_physics(
                self.sim, worlds.to(self.sim.qpos.device), self._episodes.tasks
            )
        qpos, qvel = self.mdp.initial_state(uniform)
        qpos, qvel = qpos.to(self.sim.qpos.device), qvel.to(self.sim.qvel.device)
        if self._effects.place is not None:
            qpos = self._effects.place(qpos, self._episodes.tasks)
        self.sim.reset(worlds, qpos, qvel)
        self._measured = self.mdp.measure(self.sim)
        return self._observe().to(self.device)

    @on_one_thread
    def step(self, action: Tensor) -> Step:
        self.apply(action)
        self.simulate()
        step = self.outcome()
        return (
            step
            if self.device == step.diverged.device
            else map_tensors(lambda leaf: leaf.to(self.device), step)
        )

    def apply(self, action: Tensor) -> None:
        control = self._episodes.checked(action)
        if self._action_scale != 1.0:
            control = control / self._action_scale
        control = control.clamp(-1.0, 1.0)
        if self._effects.actuate is not None:
            control = self._effects.actuate(control, self._episodes.tasks, self._episodes.num_steps)
        self._drive(self.sim, control)
        self._control = control

    def simulate(self) -> None:
        self.sim.step(self.frame_skip)

    def outcome(self) -> Step:
        control, self._control = self._control, None
        before, self._measured = self._measured, self.mdp.measure(self.sim)
        reward, terms = self.mdp.reward(
            before, self._measured, self.sim, control, self._episodes.tasks
        )
        diverged = self.sim.diverged.clone()
        failed = self.mdp.terminated(self.sim)
        terminated = diverged if failed is None else failed | diverged
        return Step(
            next_obs=self._observe(),
            reward=self._finite(reward),
            terminated=terminated,
            truncated=self._episodes.advance(terminated),
            diverged=diverged,
            terms={name: self._finite(value) for name, value in terms.items()},
        )

    @property
    def remembered(self) -> tuple[Any, Any]:
        return self._episodes.remembered, self._measured

    @remembered.setter
    def remembered(self, remembered: tuple[Any, Any]) -> None:
        self._episodes.remembered, self._measured = remembered

    def check(self) -> None:
        self.sim.check()

    def rest(self, worlds: Tensor) -> None:
        self.sim.rest(worlds)

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """[height, width, 3] uint8. Raises: RuntimeError naming the package to install where OpenGL
        is missing."""
        if not 0 <= world < self.num_worlds:
            raise ValueError(f"world is {world}; expected 0, ..., {self.num_worlds - 1}")
        model, data = self.sim.host_data(world)
        marks = []
        if self._effects.marks is not None:
            marks = self._effects.marks(
                data, map_tensors(lambda leaf: leaf[world].cpu(), self._episodes.tasks)
            )
        return self._renderer.picture(model, data, width=width, height=height, marks=marks)

    def close(self) -> None:
        if self.graphs:
            self.graphs.clear()
        self._renderer.close()
        self.sim.close()

    def __getstate__(self) -> dict[str, Any]:
        """Is called by copy.deepcopy and pickle. What was recorded speaks of this one's memory, so
        the copy has none of it."""
        return {**vars(self), "graphs": None if self.graphs is None else []}

    def _observe(self) -> Tensor:
        return self._finite(self.mdp.observe(self.sim, self._measured))

    def _finite(self, value: Tensor) -> Tensor:
        """value [W, ...] as float32, 0 where the world has diverged."""
        value = value.float()
        if self.sim.none_diverged:
            return value
        return value.masked_fill_(self.sim.diverged.reshape(-1, *[1] * (value.ndim - 1)), 0.0)
