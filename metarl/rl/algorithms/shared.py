"""What learners share: what a run gives them, how they gather and how they leave work to who runs
them, and the metrics of their rollouts; of gradient learners also their meta-parameters."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from metarl.choices import check_choice
from metarl.core import params as P
from metarl.core.checks import check_counts
from metarl.core.whose import is_ours
from metarl.described import described
from metarl.errors import SettingError
from metarl.nn.beside import CONTEXT
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy, Outputs, PolicyModule
from metarl.nn.latent import latent_kl
from metarl.nn.modes import check_has_one_mode
from metarl.nn.own_policy import try_policy
from metarl.nn.recurrent import Memory
from metarl.rl.data.batches import PolicyBatch
from metarl.rl.data.collect import Streams
from metarl.rl.data.rounds import Rollouts, gather
from metarl.rl.evaluation.within_episode import first_and_last_tenth, mean_in_tenths
from metarl.rl.losses import masked_mean
from metarl.rl.types import BatchedEnv, RLAdapter, RLLearner, Sizes, Trajectories
from metarl.struct import replace, split_rows, struct
from metarl.types import ALONE, InnerRule, Metrics, Params, Ranks

EVALUATED_UPDATES = 3
"""Inner steps that an evaluation takes by default: beyond those trained for, to see whether it goes
on improving."""


def gradient_sizes(
    *, meta_batch_size: int, episodes_per_task: int, num_inner_steps: int, **others: Any
) -> Sizes:
    """The `sizes` of a gradient learner. Raises: ValueError unless there are tasks and episodes."""
    check_counts({"meta_batch_size": meta_batch_size, "episodes_per_task": episodes_per_task})
    return Sizes(
        num_tasks=meta_batch_size,
        episodes_per_task=episodes_per_task,
        num_updates=num_inner_steps,
        evaluated_updates=max(EVALUATED_UPDATES, num_inner_steps),
        unit="update",
    )


def trial_sizes(
    *, meta_batch_size: int, trials_per_task: int, episodes_per_trial: int, **others: Any
) -> Sizes:
    """The `sizes` of a learner with memory: update k is episode k of the trial. Raises: ValueError
    for zero of anything."""
    check_counts({"meta_batch_size": meta_batch_size, "trials_per_task": trials_per_task})
    check_counts({"episodes_per_trial": episodes_per_trial})
    num_updates = episodes_per_trial - 1
    return Sizes(
        num_tasks=meta_batch_size,
        episodes_per_task=trials_per_task,
        num_updates=num_updates,
        evaluated_updates=num_updates,
        unit="episode",
    )


def episode_sizes(*, meta_batch_size: int, episodes_per_task: int, **others: Any) -> Sizes:
    """The `sizes` of a learner whose trials are single episodes. Raises: ValueError for zero of
    anything."""
    check_counts({"episodes_per_task": episodes_per_task})
    return trial_sizes(
        meta_batch_size=meta_batch_size, trials_per_task=episodes_per_task, episodes_per_trial=1
    )


def kl_on_steps(policy: PolicyModule, old: Outputs, new: Outputs, weight: Tensor) -> Tensor:
    """KL(old ‖ new) [N] of each task's policies: the mean over its steps of what their actions say,
    plus that of their latents' distributions, where they have a latent.

    Args: weight: [N, B] of the steps.
    """
    of_actions = masked_mean(policy.kl(old, new), weight)
    return of_actions + latent_kl(old, new) if policy.latent_size else of_actions


def memoryless_policy(model: nn.Module) -> PolicyModule:
    """`model` itself, if gradient learners can adapt it. Raises: SettingError."""
    if not isinstance(model, GaussianPolicy | CategoricalPolicy):
        raise SettingError(
            f"model is a {type(model).__name__}; expected a policy without memory as model=mlp makes "
            "it: a GaussianPolicy or a CategoricalPolicy of metarl.nn.heads, or a subclass"
        )
    return model


@struct
class MetaParams:
    """What the outer update changes. The tensors stay the same objects for a learner's whole life;
    they are written in place."""

    theta: Params
    """θ, sharing memory with what is adapted: a policy, or a model."""
    rule: Params
    """Learned rates; {} for plain SGD."""

    @property
    def joined(self) -> Params:
        """θ and the rule's parameters in one dict, for optimizers that take a vector."""
        return join(self.theta, self.rule)

    def assign(self, joined: Mapping[str, Tensor]) -> None:
        """Writes values of the names of `joined` in place. Raises: ValueError if names or shapes
        differ."""
        P.assign(self.joined, joined)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run gives every learner besides the numbers of its YAML."""

    env: BatchedEnv[Any]
    """Worlds to train in, as many as the algorithm's `sizes` ask for; any number for a learner that
    won't train."""
    model: nn.Module
    """Untrained, on `device`."""
    streams: Streams
    device: torch.device

    def __post_init__(self) -> None:
        """Raises: SettingError for a model with dropout or batch norm, or a policy of a user's own
        that acts otherwise than it is differentiated."""
        check_has_one_mode(self.model)
        if isinstance(self.model, GaussianPolicy | CategoricalPolicy) and not is_ours(
            type(self.model)
        ):
            try_policy(self.model, math.prod(self.env.observation_space.shape or ()))


@dataclass(frozen=True, kw_only=True)
class Source:
    """Gathers a learner's meta-batches."""

    env: BatchedEnv[Any]  # sizes.num_worlds worlds; this process's part of them
    streams: Streams
    device: torch.device
    sizes: Sizes
    keeps_its_tasks: bool = False
    """Whether every meta-batch has the same tasks, always those that the first draw gives."""

    @property
    def ranks(self) -> Ranks:
        return self.streams.ranks

    @classmethod
    def of(cls, setting: Setting, sizes: Sizes) -> "Source":
        return cls(env=setting.env, streams=setting.streams, device=setting.device, sizes=sizes)

    def tasks(self) -> Any:
        """Newly sampled training tasks, leaves [N, ...]; of several processes this one's part."""
        draws = self.streams.tasks
        if self.keeps_its_tasks:
            draws = torch.Generator().manual_seed(draws.initial_seed())
        tasks = self.env.prior.sample(self.sizes.num_tasks, draws)
        return split_rows(tasks, self.ranks.num)[self.ranks.rank]

    def gather(self, adapter: RLAdapter[Any]) -> Rollouts:
        """The rollouts of newly sampled training tasks, before and after each update of the
        adapter; of several processes those of this one's tasks."""
        tasks = self.tasks()
        with self.ranks.failing_together():
            rollouts = gather(
                self.env,
                adapter,
                tasks,
                self.streams,
                num_tasks=self.sizes.num_tasks // self.ranks.num,
                num_updates=self.sizes.num_updates,
                device=self.device,
            )
        return self.with_oracle(rollouts, tasks)

    def with_oracle(self, rollouts: Rollouts, tasks: Any) -> Rollouts:
        """Adds what would be earned by knowing the tasks, where the trial is a single episode."""
        if self.sizes.num_updates > 0:
            return rollouts
        oracle = self.env.references.known_returns(tasks, 1).get("oracle")
        # [N], or [N, 1] where it is told for each episode
        return replace(rollouts, oracle=None if oracle is None else oracle.flatten())


T = TypeVar("T")


@runtime_checkable
class Question(Protocol):
    """A piece of work that an iteration leaves to who runs it, so that it can be done for several
    learners in the same operations."""

    def answers(self, asked: Sequence[Any]) -> list[Any]:
        """What is found for each of several questions like this one, this one among them. Each gets
        the numbers that it would get alone."""
        ...


Iteration = Generator[RLAdapter[Any] | Question, Any, Metrics]
"""An iteration that yields an adapter wherever it needs rollouts and is sent those of that adapter,
or yields a question and is sent its answer. It returns its metrics."""


def run_alone(
    asking: Generator[Any, Any, T], gather: Callable[[RLAdapter[Any]], Rollouts] | None = None
) -> T:
    """Runs what asks by itself, and returns what it returns.

    Args: gather: gives the rollouts of an adapter; None: it asks for none.
    """
    answer: Any = None
    while True:
        try:
            asked = asking.send(answer)
        except StopIteration as end:
            found: T = end.value
            return found
        if isinstance(asked, Question):
            (answer,) = asked.answers([asked])
        else:
            assert gather is not None
            answer = gather(asked)


@runtime_checkable
class GatheringLearner(RLLearner, Protocol):
    """A learner that leaves gathering to who runs its iteration, so that several learners can
    gather in one simulation. Who inherits from it has `step`."""

    source: Source

    def iteration(self) -> Iteration:
        """One meta-iteration: sample tasks, gather data, update."""
        ...

    def asking(self) -> Iteration:
        """The iteration, once what it yields is found to be what somebody can answer.

        Raises: TypeError naming what isn't.
        """
        name, iteration = type(self).__name__, self.iteration()
        if not isinstance(iteration, Generator):
            raise TypeError(
                f"{name}.iteration returned {iteration!r:.60} without a yield; expected a generator, "
                "which yields an adapter wherever it needs episodes, and returns its metrics"
            )
        if not is_ours(type(self)) and not _can_act(own := self.adapter()):
            raise TypeError(f"{name}.adapter returned {described(own)}; expected {_AN_ADAPTER}")
        answer, error = None, None
        while True:
            try:
                asked = iteration.send(answer) if error is None else iteration.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if not isinstance(asked, Question) and not _can_act(asked):
                raise TypeError(
                    f"{name}.iteration yielded {described(asked)}; expected {_AN_ADAPTER}, as "
                    f"{name}.adapter returns one"
                )
            answer, error = None, None
            try:
                answer = yield asked
            except FloatingPointError as failed:
                error = failed

    def step(self) -> Metrics:
        """The iteration with what its own source gathers."""
        return run_alone(self.asking(), self.source.gather)


_AN_ADAPTER = "an adapter, which inherits from metarl.rl.types.RLAdapter"


def _can_act(asked: Any) -> bool:
    methods = (getattr(asked, name, None) for name in ("begin", "act", "update"))
    return RLAdapter in type(asked).__mro__ and all(map(callable, methods))


@struct
class WithOld:
    """A batch of a policy and that policy's outputs on its observations."""

    batch: PolicyBatch
    old: Outputs

    @property
    def obs(self) -> Tensor:
        return self.batch.obs


def meta_params(policy: PolicyModule, rule: InnerRule) -> MetaParams:
    """The policy's own tensors as θ, and the rule's learned parameters as they begin."""
    of_policy = P.of(policy)
    return MetaParams(
        theta=of_policy, rule={name: leaf.clone() for name, leaf in rule.init(of_policy).items()}
    )


def join(theta: Params, rule: Params) -> Params:
    """Puts θ and the rule's parameters into one dict. θ is called `policy` there, as in every
    checkpoint, also where it is a model's."""
    return P.joined({"policy": theta, "rule": rule})


def outer_gradient(of_theta: Params, of_rates: Params) -> Params:
    """`join` of what the outer update goes along. A context stays out of it, because a context is
    zeros before any adaptation."""
    joined = join(of_theta, of_rates)
    name = f"policy.{CONTEXT}"
    return joined | {name: torch.zeros_like(joined[name])} if name in joined else joined


def split(joined: Params) -> tuple[Params, Params]:
    """The inverse of `join`: (theta, rule)."""
    return P.group(joined, "policy"), P.group(joined, "rule")


def rollout_metrics(rollouts: Rollouts, ranks: Ranks = ALONE) -> Metrics:
    """Mean returns over all episodes of the meta-batch before the first and after the last update,
    and counts; the entropy of the actions after it, as their mean −log π tells it; the parts of the
    episodes that solved their task, where the environment says. Of trials of a single episode see
    `episode_metrics`.

    Args: ranks: whose rollouts these are a part of; the metrics are those of all.
    """
    rollouts = ranks.whole(_without_steps(rollouts)) if ranks.num > 1 else rollouts
    if not rollouts.support:
        return episode_metrics(rollouts)
    batches = (*rollouts.support, rollouts.query)
    before, after = batches[0].returns.mean().item(), batches[-1].returns.mean().item()
    success = [
        None if t.success is None else t.success.double().mean().item()
        for t in (batches[0], batches[-1])
    ]
    diverged = sum(int(t.diverged.any(-1).sum()) for t in batches)
    return {
        "env_steps": rollouts.num_steps,
        "return_before": before,
        "return_after": after,
        "adaptation_gain": after - before,
        "diverged_episodes": diverged,
        **{
            f"success_{when}": rate
            for when, rate in zip(("before", "after"), success, strict=True)
            if rate is not None
        },
        **_entropy(rollouts.query),
    }


def _entropy(t: Trajectories) -> dict[str, float]:
    """Nothing where no density chose the actions, which leaves log π at 0."""
    if not t.log_prob.any():
        return {}
    return {"entropy": -t.log_prob.double()[t.mask].mean().item()}


def _without_steps(rollouts: Rollouts) -> Rollouts:
    """Returns the rollouts without what is large and no metric asks for."""

    def small(t: Trajectories) -> Trajectories:
        return replace(t, obs=t.mask, action=t.mask, episode_latent=None)

    return replace(
        rollouts,
        support=tuple(map(small, rollouts.support)),
        query=small(rollouts.query),
        traces=(),
    )


def episode_metrics(rollouts: Rollouts) -> Metrics:
    """Returns the metrics of trials of a single episode, which have no before and after. They are
    the mean return, and what becomes of it and of what the adapter measures (a model's error)
    within the episode, from the first to the last tenth; and the regret, where the environment
    knows what could be earned."""
    episodes = rollouts.query
    returns = episodes.returns
    first, last = (
        tenth.mean().item() for tenth in first_and_last_tenth(episodes.reward, episodes.mask)
    )
    metrics = {
        "env_steps": rollouts.num_steps,
        "return": returns.mean().item(),
        "return_first_tenth": first,
        "return_last_tenth": last,
        "diverged_episodes": int(episodes.diverged.any(-1).sum()),
    }
    if rollouts.oracle is not None:
        metrics["regret"] = (rollouts.oracle.to(returns)[:, None] - returns).mean().item()
    if episodes.success is not None:
        metrics["success"] = episodes.success.double().mean().item()
    for name, values in episodes.measured.items():
        key = name.replace(" ", "_")
        metrics[f"{key}_first_tenth"], metrics[f"{key}_last_tenth"] = mean_in_tenths(
            values, episodes.mask
        )
    return metrics


def check_tells(sizes: Sizes, horizon: int, policy: PolicyModule) -> None:
    """Raises: SettingError if a task's batch has nothing to compare: a single step, whose advantage
    is 0, or for a latent a single episode."""
    episodes = sizes.episodes_per_task
    if episodes * horizon < 2:
        raise SettingError(
            f"episodes_per_task {episodes} of horizon {horizon}: expected two steps or more in all, "
            "for an action is judged beside others of its task"
        )
    if policy.latent_size and episodes < 2:
        raise SettingError(
            f"episodes_per_task {episodes}: expected 2 or more, for a latent is judged beside those "
            "of other episodes; model=mlp has none"
        )


def checked_mode(
    gradient_mode: str, inner_loss: object = "lvc"
) -> Literal["through", "first_order"]:
    """Raises: ValueError for an unknown mode, or one that leaves the inner loss without what it is
    made for."""
    modes: dict[str, Literal["through", "first_order"]] = {
        "through": "through",
        "first_order": "first_order",
    }
    check_choice("gradient_mode", gradient_mode, modes)
    if inner_loss == "dice" and gradient_mode == "first_order":
        raise SettingError(
            "gradient_mode first_order: inner_loss=dice is made for the derivatives that this leaves "
            "out; expected through, or inner_loss=reinforce"
        )
    return modes[gradient_mode]


def as_state(params: MetaParams, **more: Any) -> dict[str, Any]:
    """A learner's state_dict: the meta-parameters and what else it must remember."""
    return {"params": {name: leaf.detach() for name, leaf in params.joined.items()}, **more}


def check_remembers(memory: Memory, steps: int) -> None:
    """Raises: SettingError if a memory can't hold a trial of so many steps. The observation after
    the last step has a value, too: hence one more."""
    longest = memory.max_steps
    if longest is not None and steps + 1 > longest:
        raise SettingError(
            f"a trial has {steps} steps (horizon x episodes_per_trial); "
            f"the model's context of {longest} takes at most {longest - 1}"
        )
