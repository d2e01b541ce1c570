"""A gradient learner meets new tasks: it has policy parameters for each, and takes one inner step
on the trajectories of each update."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metarl.choices import check_choice
from metarl.core import params as P
from metarl.core.checks import check_counts, check_positive, check_shares, check_unit_interval
from metarl.core.chunks import ChunkSums, mean_over_chunks, take
from metarl.core.differentiated import Differentiate, OutputLoss
from metarl.core.linearize import inner_step
from metarl.core.rules import named_rule
from metarl.core.whose import is_ours
from metarl.errors import SettingError
from metarl.nn.beside import CONTEXT, NOISE_MEAN
from metarl.nn.heads import Outputs, PolicyModule
from metarl.nn.latent import LOG_STD, MEAN, draw_latents, latent_log_prob, latent_outputs
from metarl.nn.mlp_derivatives import differentiator
from metarl.noise import Noise
from metarl.rl.adapters.latent_bound import LatentBound
from metarl.rl.adapters.latent_rule import LatentRule
from metarl.rl.adapters.own_loss import InnerLoss, OwnLoss
from metarl.rl.data.batches import MEANS_OVER, PolicyBatch, policy_batch
from metarl.rl.losses import dice, lvc, reinforce
from metarl.rl.types import Act, EpisodeLatent, RLAdapter, Steady, Trajectories
from metarl.struct import join_rows, replace, struct
from metarl.types import InnerRule, Params

ROWS_ON_CPU = 5000
"""Steps that are differentiated together, in two tasks at least and half of all at most, unless a
setting says how many tasks: enough that what Python adds to each operation is little, and few
enough that threads have tasks to share out. A GPU takes all at once: each chunk launches all
kernels anew. The number of cores has no say, so that a seed's numbers don't depend on it.
`python scripts/benchmark.py iteration chunks=[2,10]` compares others with it.
"""

INNER_LOSSES = ("lvc", "reinforce", "dice")
LAST_LAYER = "last_layer"


@struct
class Adapted:
    """The policies of N tasks after some updates."""

    params: Params  # [N, ...]
    num_updates: int
    parts: int = 1  # equal parts of the tasks, each a learner's
    episode_latent: EpisodeLatent | None = None
    """The latent of the present episodes, if the policies draw one."""


@struct
class InnerStep:
    """What an update works out: an outer update goes on from it."""

    batch: PolicyBatch
    """What the step learned from, N tasks."""
    adapted: Params
    """The parameters [N, ...] that it led to."""


@struct
class InnerUpdate:
    """One inner step: how trajectories become a batch, which loss it lowers, and by which rule."""

    rule: InnerRule
    differentiate: Differentiate
    discount: float
    gae_lambda: float
    mean_over: str
    """One of `MEANS_OVER`."""
    chunk: int | None
    """Tasks that are differentiated together; None: see `ROWS_ON_CPU`."""
    own_loss: OwnLoss | None = None
    """The user's, if the step lowers one, to be tried out."""
    latent_bound: LatentBound = LatentBound()
    """What an outer update leaves of the latent's deviation."""

    def batch(self, trajectories: Trajectories) -> PolicyBatch:
        """What the step learns from, see `policy_batch`. Raises: SettingError if the user's own
        loss can't learn from it."""
        found = policy_batch(
            trajectories,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
            mean_over=self.mean_over,
        )
        if self.own_loss is not None:
            self.own_loss.try_on(found)
        return found

    def tasks_together(self, mask: Tensor) -> int:
        """How many tasks are differentiated together, of those with this mask [N, steps]."""
        if self.chunk is not None:
            return self.chunk
        num_tasks, num_rows = mask.shape
        if mask.device.type != "cpu":
            return num_tasks
        return max(2, min(ROWS_ON_CPU // num_rows, -(-num_tasks // 2)))

    def __call__(
        self, params: Params, rule_params: Params, batch: PolicyBatch, step: int
    ) -> Params:
        """Stacked parameters [N, ...] after inner step number `step`; not differentiable. No task
        sees another's data."""

        def updated(tasks: slice) -> ChunkSums:
            before = P.task(params, tasks)
            after = inner_step(
                self.differentiate, before, take(batch, tasks), self.rule, rule_params, step
            )
            return ChunkSums(each=after)

        adapted: Params = mean_over_chunks(
            updated, P.num_tasks(params), self.tasks_together(batch.mask), batch.obs.device
        ).each
        return adapted


class GradientAdapter(RLAdapter[Adapted]):
    """Shares memory with the parameters it was given: it adapts from where they are now.

    A subclass may adapt by an `update` of its own: training takes it as evaluations do.
    """

    def __init__(
        self, policy: PolicyModule, params: Params, rule_params: Params, inner_update: InnerUpdate
    ) -> None:
        self._policy = policy
        self._params = params
        self._rule_params = rule_params
        self._inner_update = inner_update

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Adapted:
        params = P.expand(self._params, num_tasks)
        return Adapted(
            params=params,
            num_updates=0,
            episode_latent=self._drawn_latent(params, episodes_per_task, noise),
        )

    @torch.no_grad()
    def act(self, state: Adapted, obs: Tensor, noise: Noise | None) -> Act:
        action, log_prob = self._policy.act(self._outputs(state, obs), noise)
        return Act(action=action.flatten(0, 1), log_prob=log_prob.flatten())

    def update(self, state: Adapted, data: Trajectories, noise: Noise | None = None) -> Adapted:
        return self._inner_step(state, data, noise)[0]

    def traced_update(
        self, state: Adapted, data: Trajectories, noise: Noise | None = None
    ) -> tuple[Adapted, InnerStep]:
        if type(self).update is GradientAdapter.update:
            return self._inner_step(state, data, noise)
        # A subclass says by `update` alone how it adapts.
        after = self.update(state, data, noise)
        return after, InnerStep(batch=self._inner_update.batch(data), adapted=after.params)

    def _inner_step(
        self, state: Adapted, data: Trajectories, noise: Noise | None
    ) -> tuple[Adapted, InnerStep]:
        batch = self._inner_update.batch(data)
        adapted = self._inner_update(state.params, self._rule_params, batch, state.num_updates)
        latent = self._drawn_latent(adapted, data.reward.shape[1], noise)
        after = Adapted(params=adapted, num_updates=state.num_updates + 1, episode_latent=latent)
        return after, InnerStep(batch=batch, adapted=adapted)

    @torch.no_grad()
    def joined(self, states: Sequence[Adapted]) -> Adapted | None:
        if not is_ours(type(self._policy)):
            return None  # It may hold what isn't among its parameters.
        latents = [state.episode_latent for state in states if state.episode_latent is not None]
        return Adapted(
            params={name: torch.cat([s.params[name] for s in states]) for name in states[0].params},
            num_updates=states[0].num_updates,
            parts=len(states),
            episode_latent=join_rows(latents) if latents else None,
        )

    def steady(self, state: Adapted, obs: Tensor) -> Steady[Adapted]:
        # How many updates there were is for the next one to know.
        policy = self._policy
        return Steady(
            state=replace(state, num_updates=0), reads=(*policy.parameters(), *policy.buffers())
        )

    def episode_latent(self, state: Adapted) -> EpisodeLatent | None:
        return state.episode_latent

    def most_likely(self, state: Adapted) -> Adapted:
        return self._drawn_anew(state, None)

    def redraw(self, state: Adapted, noise: Noise) -> Adapted:
        return self._drawn_anew(state, noise)

    @torch.no_grad()
    def with_episode_latent(self, state: Adapted, latent: Tensor) -> Adapted:
        spread = self._spread(state.params)
        if spread is None:
            return super().with_episode_latent(state, latent)
        return replace(
            state,
            episode_latent=EpisodeLatent(value=latent, log_prob=latent_log_prob(spread, latent)),
        )

    @torch.no_grad()
    def log_prob(self, state: Adapted, obs: Tensor, action: Tensor) -> Tensor:
        rows = action.unflatten(0, (P.num_tasks(state.params), -1))
        return self._policy.log_prob(self._outputs(state, obs), rows).flatten()

    def _outputs(self, state: Adapted, obs: Tensor) -> Outputs:
        """What each task's parameters give for its worlds: [W, O] -> leaves [N, E, ...]."""
        rows = obs.reshape(P.num_tasks(state.params), -1, obs.shape[-1])
        if state.episode_latent is not None:
            rows = torch.cat([rows, state.episode_latent.value], dim=-1)
        return self._policy.with_params(state.params, rows, state.parts)

    def as_module(self, state: Adapted, obs: Tensor) -> nn.Module:
        latent = None if state.episode_latent is None else state.episode_latent.value[0, 0]
        return _AdaptedPolicy(self._policy, P.task(state.params, 0), latent)

    def _drawn_anew(self, state: Adapted, noise: Noise | None) -> Adapted:
        if state.episode_latent is None:
            return state
        episodes_per_task = state.episode_latent.value.shape[1]
        return replace(
            state, episode_latent=self._drawn_latent(state.params, episodes_per_task, noise)
        )

    @torch.no_grad()
    def _drawn_latent(
        self, params: Params, episodes_per_task: int, noise: Noise | None
    ) -> EpisodeLatent | None:
        spread = self._spread(params)
        if spread is None:
            return None
        latent = draw_latents(spread[MEAN][:, 0], spread[LOG_STD][:, 0], episodes_per_task, noise)
        return EpisodeLatent(value=latent, log_prob=latent_log_prob(spread, latent))

    def _spread(self, params: Params) -> Params | None:
        """μ and log σ [N, 1, L] of what is held for an episode: N(0, I) where it is the noise of a
        latent; None where nothing is held."""
        if self._policy.noise_size:
            # As large as the parameters that adapt from, whatever the adapted ones are.
            zeros = torch.zeros_like(self._params[NOISE_MEAN])
            zeros = zeros.expand(len(params[NOISE_MEAN]), 1, -1)
            return {MEAN: zeros, LOG_STD: zeros}
        return latent_outputs(params) if self._policy.latent_size else None


class _AdaptedPolicy(nn.Module):
    """The mode of one task's policy, with the latent that it holds [L]."""

    latent: Tensor | None

    def __init__(self, policy: PolicyModule, params: Params, latent: Tensor | None) -> None:
        super().__init__()
        self.policy = copy.deepcopy(policy)
        P.assign(dict(self.policy.named_parameters()), params)
        self.register_buffer("latent", latent)

    def forward(self, obs: Tensor) -> Tensor:
        if self.latent is not None:
            beside = self.latent.expand(*obs.shape[:-1], -1)
            obs = torch.cat([obs, beside], dim=-1)
        action: Tensor = self.policy.act(self.policy(obs), None)[0]
        return action


def inner_update(
    policy: PolicyModule,
    *,
    inner_rule: str | InnerRule,
    inner_lr: float,
    inner_lr_decay: float,
    num_inner_steps: int,
    adapt_only: Sequence[str] | None,
    inner_loss: str | InnerLoss,
    horizon: int,
    discount: float,
    gae_lambda: float,
    chunk: int | None,
    mean_over: str = "steps",
    latent_lr: float | None = None,
    latent_shrink: float | None = None,
    latent_first_shrink: float | None = None,
    latent_min_std: float | None = None,
) -> InnerUpdate:
    """The inner step that an algorithm's settings name. In `adapt_only` the word last_layer stands
    for the policy's last weights and biases, however many layers it has.

    Raises: ValueError for an unknown name or a number out of range.
    """
    check_counts({"num_inner_steps": num_inner_steps, "chunk": chunk})
    check_positive({"inner_lr": inner_lr})
    check_shares({"inner_lr_decay": inner_lr_decay})
    check_unit_interval({"discount": discount, "gae_lambda": gae_lambda})
    check_choice("mean_over", mean_over, MEANS_OVER)
    if adapt_only is not None:
        has_context = any(name == CONTEXT for name, _ in policy.named_parameters())
        if has_context and not any(CONTEXT.startswith(name) for name in adapt_only):
            raise SettingError(
                f"adapt_only {list(adapt_only)}: the policy's context would never be anything but "
                f"zeros; expected [{CONTEXT}] or more, or a model without a context"
            )
        last = f"trunk.layers.{len(policy.trunk.layers) - 1}"
        adapt_only = [last if name == LAST_LAYER else name for name in adapt_only]
    rule = named_rule(
        inner_rule, inner_lr, decay=inner_lr_decay, num_steps=num_inner_steps, adapt_only=adapt_only
    )
    own_loss = None if isinstance(inner_loss, str) else OwnLoss(inner_loss)
    loss = policy_loss(own_loss or inner_loss, policy, horizon)
    if policy.latent_size:
        if latent_lr is None or latent_shrink is None:
            raise SettingError(
                f"latent_size {policy.latent_size}: this algorithm can't adapt a latent; expected 0"
            )
        rule = LatentRule(
            rule,
            lr=latent_lr,
            decay=inner_lr_decay,
            shrink=latent_shrink,
            first_shrink=latent_first_shrink,
        )
        loss = plus(loss, latent_reinforce)
    return InnerUpdate(
        rule=rule,
        differentiate=differentiator(policy, loss),
        discount=discount,
        gae_lambda=gae_lambda,
        mean_over=mean_over,
        chunk=chunk,
        own_loss=own_loss,
        latent_bound=LatentBound(latent_min_std),
    )


def policy_loss(loss: str | InnerLoss, policy: PolicyModule, horizon: int) -> OutputLoss:
    """The inner loss, one of ours by its name, as a function of the policy's outputs and a
    PolicyBatch: [n].

    Raises: ValueError for an unknown name.
    """
    if not isinstance(loss, str):
        return partial(_own, policy, loss)
    check_choice("inner_loss", loss, INNER_LOSSES)
    return partial(_POLICY_LOSSES[loss], policy, horizon)


def _own(policy: PolicyModule, loss: InnerLoss, outputs: Outputs, batch: PolicyBatch) -> Tensor:
    return loss(policy.log_prob(outputs, batch.action), batch)


def _reinforce(policy: PolicyModule, horizon: int, outputs: Outputs, batch: PolicyBatch) -> Tensor:
    return reinforce(policy.log_prob(outputs, batch.action), batch.advantage, batch.weight)


def _lvc(policy: PolicyModule, horizon: int, outputs: Outputs, batch: PolicyBatch) -> Tensor:
    log_prob = policy.log_prob(outputs, batch.action)
    return lvc(log_prob, batch.log_prob, batch.advantage, batch.weight)


def _dice(policy: PolicyModule, horizon: int, outputs: Outputs, batch: PolicyBatch) -> Tensor:
    per_step = (policy.log_prob(outputs, batch.action), batch.advantage, batch.weight)
    return dice(*(x.unflatten(-1, (-1, horizon)) for x in per_step))


# Functions of the module, and not of a function, so that a policy that has adapted pickles.
_POLICY_LOSSES: dict[str, Callable[..., Tensor]] = {
    "lvc": _lvc,
    "reinforce": _reinforce,
    "dice": _dice,
}


def latent_reinforce(outputs: Outputs, batch: PolicyBatch) -> Tensor:
    """−1/E Σ log N(z; μ, σ²) Â over the episodes: [n], with Â their normalised returns.

    Without the ratio to the density that z was drawn from: the natural step of `LatentRule` is then
    the same from wherever θ has moved to, where a ratio of narrow densities would explode.
    """
    assert batch.episode_latent is not None and batch.episode_advantage is not None
    log_prob = latent_log_prob(outputs, batch.episode_latent.value)
    return -(log_prob * batch.episode_advantage).mean(-1)


def plus(loss: OutputLoss, other: OutputLoss, weight: float = 1.0) -> OutputLoss:
    """The loss with `weight` times the other."""
    return partial(_sum, loss, other, weight)


def _sum(
    loss: OutputLoss, other: OutputLoss, weight: float, outputs: Outputs, batch: Any
) -> Tensor:
    return loss(outputs, batch) + weight * other(outputs, batch)
