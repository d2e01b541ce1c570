"""What reinforcement learning passes around: steps, trajectories and tasks; the protocols that
environments and their tasks meet, and that of an adapter, which acts in them.

N tasks, E episodes per task, W = N * E worlds, T steps, O observation and A action size. World w
belongs to task w // E.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import gymnasium
import torch
from torch import Tensor, nn

from metarl.noise import Noise
from metarl.rl.returns import of_next_step
from metarl.rl.spec import EnvSpec
from metarl.struct import struct
from metarl.types import Adapter, MetaLearner

Tasks = TypeVar("Tasks")
"""A struct of one environment family with leaves [N, ...], for instance target_velocity [N] in
m/s."""


@struct
class FixedSpeeds:
    """What an episode on a velocity task pays whoever holds a speed v all along: steps · (bonus −
    |v − g|) − allowance."""

    bonus: float = 0.0  # of a step, whatever the speed
    # what reaching and holding a speed costs an episode: run-up, control, noise; 0 gives a bound
    allowance: float = 0.0
    allowance_is: str = ""  # where that number comes from
    allowance_steps: int = 0  # how long the episodes were in which it was measured

    def over(self, num_steps: int) -> "FixedSpeeds":
        """Returns what holds for episodes of this length: an allowance is known only for the length
        at which it was measured."""
        return self if num_steps == self.allowance_steps else FixedSpeeds(bonus=self.bonus)


@struct
class Step:
    next_obs: Tensor  # [W, O] the true successor, before any reset
    reward: Tensor  # [W] float32
    terminated: Tensor  # [W] bool: the episode failed or reached its end; its value after is 0
    truncated: Tensor  # [W] bool: the time limit; its value after is not 0
    # [W] bool: the physics blew up; such a world is also terminated, its reward 0, its next_obs
    # finite
    diverged: Tensor
    terms: dict[str, Tensor]
    """[W] each: parts of the reward and what one wants to plot (velocity, ...), perhaps
    `success`."""


@struct
class EpisodeLatent:
    """What a policy draws for a whole episode, as if it were one more action, and sees beside every
    observation (metarl/nn/latent.py)."""

    value: Tensor  # [N, E, L]
    log_prob: Tensor  # [N, E] under the distribution that it was drawn from


@struct
class Trajectories:
    """One episode per world, padded to T steps. Entries where `mask` is False are zeros and mean
    nothing."""

    # [N, E, T + 1, O]: step t begins at row t, and row t + 1 is its true successor, before any
    # reset
    obs: Tensor
    action: Tensor  # [N, E, T, A] float, or [N, E, T] int64 for discrete actions
    reward: Tensor  # [N, E, T]
    log_prob: Tensor  # [N, E, T] of the policy that acted
    terminated: Tensor  # [N, E, T] bool
    truncated: Tensor  # [N, E, T] bool
    diverged: Tensor  # [N, E, T] bool
    mask: Tensor  # [N, E, T] bool: the episode was still running when this step was taken
    terms: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """The steps' terms [N, E, T] that are kept: `success` (bool), where the environment has it."""
    measured: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """[N, E, T] each: what the adapter measures of its steps, where it has a method `measure`."""
    episode_latent: EpisodeLatent | None = None
    """What the policy drew for each episode; None where it draws nothing."""

    @property
    def step_obs(self) -> Tensor:
        """[N, E, T, O] what each step began with, a view. Where an episode ended early, its last
        successor comes after it."""
        return self.obs[:, :, :-1]

    @property
    def next_obs(self) -> Tensor:
        """[N, E, T, O] each step's true successor, a view."""
        return self.obs[:, :, 1:]

    @property
    def first(self) -> Tensor:
        """[N, E, T] bool: the first step of its episode, a view."""
        is_first = torch.arange(self.mask.shape[-1], device=self.mask.device) == 0
        return is_first.expand_as(self.mask)

    @property
    def learnable(self) -> Tensor:
        """[N, E, T] bool: steps that came to something. What a policy did before the physics blew
        up is to be judged, the blow-up itself has no reward that means anything."""
        return self.mask & ~self.diverged

    @property
    def blows_up_next(self) -> Tensor:
        """[N, E, T] bool: steps after which the physics blew up. What would have come is unknown
        there, not nothing."""
        return of_next_step(self.diverged)

    @property
    def returns(self) -> Tensor:
        """[N, E] undiscounted sum of rewards of each episode."""
        return (self.reward * self.mask).sum(-1)

    @property
    def success(self) -> Tensor | None:
        """[N, E] bool: the task was solved at some step of the episode; None where the environment
        doesn't say."""
        return self.terms["success"].any(-1) if "success" in self.terms else None

    @property
    def num_steps(self) -> int:
        return int(self.mask.sum())


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class References(Generic[Tasks]):
    """What an environment knows of its tasks to set beside a learner's returns.

    All of it may be missing. It speaks of the environment's present state, so ask for it anew where
    a copy of the environment acts.
    """

    stand_still: Callable[[], Tensor] | None = None
    """() -> the action [W, A] of doing nothing; None where there is no such thing."""
    scripted: Callable[[], Tensor] | None = None
    """() -> the action [W, A] or [W] that a controller takes now. It sees the hidden task and the
    true state, so its return shows what can be earned."""
    known_returns: Callable[[Tasks, int], dict[str, Tensor]] = _nothing
    """(tasks, num_episodes) -> what calculation says of the expected return of an episode on each
    of N tasks, by name; {} where it says nothing. Needs no `set_tasks`.

    [N] if it is the same in every episode, as for `oracle`, the best of those who know the task, or
    a bound on it. [N, num_episodes], from the first to the last, if it isn't, as for
    `bayes_optimal`, the best of those who know only the prior and have a trial of num_episodes
    episodes on the task.
    """
    learners: "Callable[[int], dict[str, RLAdapter[Any]]]" = _nothing
    """num_episodes -> agents by name that know the prior but not the task, and learn by calculation
    (an index policy, posterior sampling) over a trial of so many episodes; {} where there are none.
    `update` keeps what they have learnt."""
    fixed_speeds: FixedSpeeds | None = None
    """What it pays to hold a speed; None where tasks aren't velocities."""


class BatchedEnv(Protocol[Tasks]):
    """W worlds stepped together. Never resets itself, never merges terminated and truncated.

    An environment that inherits from it needn't say that steps have no duration, that there are no
    references, or that there is nothing to close.
    """

    spec: EnvSpec
    prior: "TaskDistribution[Tasks]"
    """The distribution that its tasks come from."""
    num_worlds: int
    num_uniforms: int
    """How many random numbers the start of an episode takes in each world."""
    observation_space: gymnasium.spaces.Box  # of one world, float32 [O]
    action_space: gymnasium.spaces.Box | gymnasium.spaces.Discrete  # of one world
    control_step: float | None = None
    """Seconds that a step takes in the world; None where steps have no duration."""
    render_fps: float | None = None
    """Pictures a second that whoever made the world asks for; None: nobody did."""
    graphs: "list[Any] | None" = None
    """Where whoever plays in it keeps what he recorded of its steps as CUDA graphs, which live as
    long as it; None: its steps can't be recorded. One with a list is a `StepsInParts`."""

    @property
    def references(self) -> References[Tasks]:
        """What a learner's returns are set beside."""
        return References()

    def set_tasks(self, tasks: Tasks) -> None:
        """Gives each world its task; leaves [W, ...]. Holds from the next reset."""
        raise NotImplementedError(f"{type(self).__name__} has no method set_tasks")

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        """Starts an episode in all worlds, or where `worlds` [W] bool is True, and leaves the
        others untouched.

        All that happens by chance in world i's episode follows from row i, so it doesn't depend on
        the other worlds.

        Args: uniform: [W, num_uniforms] float64 in [0, 1), as `metarl.noise.Noise.starts` draws
        them.
        Returns: the present observation of all worlds [W, O].
        """
        raise NotImplementedError(f"{type(self).__name__} has no method reset")

    def step(self, action: Tensor) -> Step:
        """One control step of all worlds; action [W, A] float or [W] int64. Worlds past their end
        may be stepped on."""
        raise NotImplementedError(f"{type(self).__name__} has no method step")

    def rest(self, worlds: Tensor) -> None:
        """Nobody looks at these worlds, [W] bool, before their next reset: from here on steps may
        leave them as they are, which saves the time that their physics would take."""
        return

    def check(self) -> None:
        """Is asked at the end of each rollout, because on a GPU the answer is a wait. Raises:
        BufferOverflow if what has happened since the last time isn't right."""
        return

    def render(self, world: int, *, width: int = 320, height: int = 240) -> Any:
        """An RGB picture [height, width, 3] uint8 of one world. Raises: RuntimeError saying why it
        can't be drawn."""
        raise RuntimeError(f"{type(self).__name__} has no method render")

    def close(self) -> None:
        """Releases what the environment holds outside its tensors."""
        return


class StepsInParts(BatchedEnv[Tasks], Protocol[Tasks]):
    """An environment whose `step` is three others: `apply`, `simulate`, `outcome`.

    The first and the last are operations of torch that can be recorded once and then replayed. They
    wait for nothing and copy nothing to the device. All that changes from step to step they find in
    `remembered` and in the simulator's own memory.
    """

    remembered: Any
    """A pytree of what a step takes from here besides the physics: tasks, counts, what the reward
    compares. Who sets it to tensors of the same shapes lends them: steps read those."""

    def apply(self, action: Tensor) -> None:
        """Moves the actuators by the action [W, A]."""
        ...

    def simulate(self) -> None:
        """Lets the time of a control step pass, all on the device."""
        ...

    def outcome(self) -> Step:
        """What came of the action that was applied."""
        ...


class TaskDistribution(Protocol[Tasks]):
    """A prior over tasks and its split into training and held-out tasks."""

    split: Literal["fixed", "infinite", "none"]
    """fixed: finite training set; infinite: training draws from the prior; none: so few tasks that
    train = test."""
    num_train: int | None
    """How many training tasks there are; None if training draws from the prior."""
    num_test: int
    num_held_out: int | None
    """How many different held-out tasks there are; None if others can always be drawn, or training
    and test have the same ones."""

    @property
    def bounds(self) -> Mapping[str, tuple[Any, Any]]:
        """The lowest and the highest value of the tasks' fields by name, as numbers or as lists of
        them."""
        ...

    def sample(self, num: int, generator: torch.Generator) -> Tasks:
        """`num` training tasks, leaves [num, ...]."""
        ...

    def train_tasks(self) -> Tasks | None:
        """All training tasks, leaves [num_train, ...], always in the same order, so that a learner
        may keep something for each; None if training draws from the prior."""
        ...

    def test_tasks(self, num: int | None = None) -> Tasks:
        """The held-out tasks: always the same ones for a given split seed, `num_test` of them by
        default; a longer list starts with the shorter one."""
        ...

    def is_held_out(self, tasks: Tasks) -> Tensor:
        """[num] bool: True where training can't have seen the task."""
        ...

    def check(self, tasks: Tasks, num: int) -> None:
        """Raises: ValueError unless these are `num` tasks that the prior can give."""
        ...

    def split_definition(self) -> Mapping[str, object]:
        """JSON values that fix which tasks are for training and which for test."""
        ...

    def describe(self, tasks: Tasks) -> list[str]:
        """A short text for each task with its unit, for instance `target 1.53 m/s`, for videos and
        tables."""
        ...


@struct
class Sizes:
    """What an algorithm's settings ask of environments. Every algorithm has a static method `sizes`
    that takes its settings as keywords, those of its YAML, and says so before there is an
    environment or a model."""

    num_tasks: int
    """Tasks sampled in one iteration."""
    episodes_per_task: int
    """Episodes played side by side on each task, before and again after each update."""
    num_updates: int
    """Updates on a task as training goes: those that it learns from, or, of a learner that doesn't
    adapt in training, those of evaluations on the way. For a learner with memory, after k
    updates means in episode k + 1 of the trial."""
    evaluated_updates: int
    """Updates that an evaluation shows unless told otherwise."""
    unit: Literal["update", "episode"]
    """What a user calls the steps of adaptation: a gradient learner's updates, the episodes of a
    memory's trial."""

    @property
    def num_worlds(self) -> int:
        return self.num_tasks * self.episodes_per_task


State = TypeVar("State")


@struct
class Act:
    """What an adapter does in W worlds now."""

    action: Tensor  # [W, A], or [W] int64
    log_prob: Tensor | None = None  # [W] of the policy that chose; None where there is no density
    carry: Any = None
    """What `observe` needs besides: the memory after the observation, the plan. None of an action
    that came from elsewhere."""


class NotSteady(Exception):
    """There is no steady state; the message says why."""


@struct
class Steady(Generic[State]):
    """A state to act from whose tensors keep their types and shapes."""

    state: State
    reads: tuple[Tensor, ...]
    """The tensors that acting reads besides, such as a network's parameters. They stay where they
    are; two adapters of one class with the same ones act alike."""


@struct
class Belief:
    """What an adapter believes of the tasks of its worlds, for pictures."""

    mean: Tensor  # [W, L] of the numbers that stand for the task
    deviation: Tensor  # [W, L]
    chances: Tensor | None = None
    """[W, O] that each state pays, in worlds whose observation is one-hot; None where it isn't
    decoded."""


_SAYS_HOW = {
    "steady": ("act", "observe", "measure"),
    "joined": ("act", "observe", "measure"),
    "as_module": ("act", "observe"),
}
"""Methods that say what an adapter does in another form, and the methods that do it."""


class RLAdapter(Adapter[State], Protocol[State]):
    """An adapter that acts. Its state and its acts are values: it may act from any state at any
    time, as films do.

    Whoever meets it by inheriting has the methods that do nothing here for nothing. A subclass of
    another adapter with an `act`, `observe` or `measure` of its own has those for nothing, too,
    that would say what its parent does: `steady`, `joined` and, unless it only measures,
    `as_module`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, acting in _SAYS_HOW.items():
            if name not in vars(cls) and any(method in vars(cls) for method in acting):
                setattr(cls, name, getattr(RLAdapter, name))

    rounds_per_update: int = 1
    """How many times an update of an adaptation plays and learns; `metarl.rl.data.rounds.rounds`
    shows the episodes of the first time alone."""

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> State:
        """The state before any data. What a policy holds for a whole episode (a latent, a guess) is
        drawn here and in `update`."""
        ...

    def act(self, state: State, obs: Tensor, noise: Noise | None) -> Act:
        """What to do at obs [W, O]. Without noise it is what the policy would most likely do."""
        ...

    def observe(self, state: State, obs: Tensor, act: Act, step: Step) -> State:
        """The state after a step of the env. Memory learners take in what happened; for others
        nothing changes."""
        return state

    def update(self, state: State, data: Trajectories, noise: Noise | None = None) -> State:
        """The state before the next episode, of data [N, E, T]: gradient learners take an inner
        step, memory learners go on."""
        return state

    def traced_update(
        self, state: State, data: Trajectories, noise: Noise | None = None
    ) -> tuple[State, Any]:
        """`update`, and beside the new state what it worked out on the way, for a learner that goes
        on with that (a gradient learner's `InnerStep`); None where there is nothing."""
        return self.update(state, data, noise), None

    def joined(self, states: Sequence[State]) -> State | None:
        """One state of the tasks of several adapters like this one, one after the other, from which
        `act` acts for all of them at once, with the numbers that each has alone, on a CPU bit for
        bit; None: each acts by itself. Who has one observes and measures nothing."""
        return None

    def steady(self, state: State, obs: Tensor) -> "Steady[State]":
        """The state as one whose tensors keep types and shapes from step to step, if `act`,
        `observe` and `measure` are operations of torch alone that can be recorded once and then
        replayed: they wait for nothing, copy nothing to the device, and decide nothing by what
        changes between steps or rollouts, tensors of the state excepted.

        Args: obs: the first observations [W, O].
        Raises: NotSteady, if there is none.
        """
        raise NotSteady(f"{type(self).__name__} may decide in Python what it does")

    def episode_latent(self, state: State) -> EpisodeLatent | None:
        """What the policy sees beside every observation of the episodes that begin; None if
        nothing."""
        return None

    def most_likely(self, state: State) -> State:
        """The state, but with the most likely latent of the episodes that begin."""
        return state

    def concluded(self, state: State) -> State:
        """The state to act with when adaptation is over and nothing is explored any more: what is
        known counts, also where a longer trial would have gone on exploring."""
        return state

    def redraw(self, state: State, noise: Noise) -> State:
        """The state, but with what the policy holds for the episodes that begin, or its guess of the
        task, drawn anew."""
        return state

    def with_episode_latent(self, state: State, latent: Tensor) -> State:
        """The state in which these are the latents [N, E, L] of the episodes that begin, of whatever
        number E. Raises: ValueError where the policy draws none."""
        raise ValueError(f"{type(self).__name__} draws no latent for an episode")

    def log_prob(self, state: State, obs: Tensor, action: Tensor) -> Tensor | None:
        """[W] how likely the policy is to take these actions at obs [W, O]; None where it isn't
        needed to learn from them."""
        return None

    def as_module(self, state: State, obs: Tensor) -> nn.Module | None:
        """What the policy most likely does in the first world from this state on, as a module of
        its own; None where it isn't a network from observations to actions.

        Without a memory it takes observations [..., O] and gives actions [..., A] or [...]. With
        one it is a `metarl.rl.adapters.memory.RememberedPolicy`.

        Args: obs: any observation [O]; its size alone matters.
        """
        return None

    def measure(self, state: State, obs: Tensor, act: Act, step: Step) -> dict[str, Tensor]:
        """What is worth drawing of a step beside it, [W] each, by name; `state` is that before the
        step."""
        return {}

    def belief(self, state: State) -> Belief | None:
        """What it believes of each task; None if it doesn't say."""
        return None


class RLLearner(MetaLearner, Protocol):
    """A meta-learner whose adapter acts."""

    def adapter(self) -> RLAdapter[Any]: ...
