"""How an agent that infers its task meets new ones: what it holds for an episode is a guess z of
the task, drawn from what all steps of the trial so far say of it.

To explore is to act as if the guess were right. The first guesses come from the prior.

Source: Rakelly et al. 2019 (arXiv:1903.08254, section 5).
"""

import copy

import torch
from torch import Tensor, nn

from metarl.nn.gaussians import GaussianByVariance
from metarl.nn.task_posterior import LEAST_VARIANCE, product, standard
from metarl.noise import Noise
from metarl.rl.data.stretches import drawn_below
from metarl.rl.models.pearl import PearlModel
from metarl.rl.types import Act, Belief, RLAdapter, Step, Trajectories
from metarl.struct import replace, struct


@struct
class Guess:
    """The present state of W trials."""

    z: Tensor  # [W, L] held for the present episode
    belief: GaussianByVariance  # [W, L] what z was drawn from
    factors: GaussianByVariance | None
    """[W, n, L] of all steps so far; their variance is infinite where no step was."""
    num_episodes: int  # that are over
    precision: Tensor  # [W, L] of all steps until now, 0 before the first; only if it is watched
    over: Tensor  # [W] bool: the present episode has ended


class PosteriorAdapter(RLAdapter[Guess]):
    """Shares memory with the model it was given: it acts with the parameters of now.

    Without noise actions are the policy's modes, as in published evaluations; z is a draw all the
    same, always the same one, because by its guesses the agent explores.

    Args:
      exploration_episodes: at the start of a trial, whose z come from the prior.
      context_size: how many of the trial's steps the posterior is made of, drawn with replacement;
        None for all of them.
      cost: a term of the steps to be recorded as the trajectories' measurement `cost`; None for
        none.
      is_watched: whether how much is known of the task is measured at every step, for films; that
        costs two passes of the encoder.
    """

    def __init__(
        self,
        model: PearlModel,
        *,
        exploration_episodes: int,
        context_size: int | None = None,
        cost: str | None = None,
        is_watched: bool = False,
    ) -> None:
        self._model = model
        self._exploration_episodes = exploration_episodes
        self._context_size = context_size
        self._cost = cost
        self._is_watched = is_watched

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Guess:
        like = self._model.actions.low
        belief = standard(num_tasks * episodes_per_task, self._model.latent_size, like=like)
        return self.believing(belief, noise)

    def believing(self, belief: GaussianByVariance, noise: Noise | None) -> Guess:
        """The state at the start of a trial of whose task this much [W, L] is known."""
        return Guess(
            z=_draw(belief, noise or _fixed(0)),
            belief=belief,
            factors=None,
            num_episodes=0,
            precision=torch.zeros_like(belief.mean),
            over=torch.zeros(len(belief.mean), dtype=torch.bool, device=belief.mean.device),
        )

    @torch.no_grad()
    def act(self, state: Guess, obs: Tensor, noise: Noise | None) -> Act:
        actions = self._model.actions
        unit, log_prob = self._model.policy.act(self._model.outputs(obs, state.z), noise)
        return Act(action=actions.to_env(unit), log_prob=log_prob - actions.log_stretch)

    def observe(self, state: Guess, obs: Tensor, act: Act, step: Step) -> Guess:
        if not self._is_watched:
            return state
        over = state.over | step.terminated | step.truncated
        return replace(state, precision=self._precision(state, obs, act, step), over=over)

    @torch.no_grad()
    def update(self, state: Guess, data: Trajectories, noise: Noise | None = None) -> Guess:
        """The next episode begins: z is drawn anew, after the first ones from the posterior."""
        found = self._factors(data)
        if state.factors is not None:
            found = GaussianByVariance(
                mean=torch.cat([state.factors.mean, found.mean], dim=1),
                variance=torch.cat([state.factors.variance, found.variance], dim=1),
            )
        num_episodes = state.num_episodes + 1
        noise = noise or _fixed(num_episodes)
        explores = num_episodes < self._exploration_episodes
        belief = state.belief if explores else self._posterior(found, noise)
        return replace(
            state,
            z=_draw(belief, noise),
            belief=belief,
            factors=found,
            num_episodes=num_episodes,
            over=torch.zeros_like(state.over),
        )

    @torch.no_grad()
    def concluded(self, state: Guess) -> Guess:
        """The likeliest task, given all steps so far, however few episodes these are."""
        belief = state.belief
        if state.factors is not None and state.num_episodes < self._exploration_episodes:
            belief = self._posterior(state.factors, _fixed(state.num_episodes))
        return replace(state, z=belief.mean, belief=belief)

    def redraw(self, state: Guess, noise: Noise) -> Guess:
        return replace(state, z=_draw(state.belief, noise))

    def belief(self, state: Guess) -> Belief:
        """What z was drawn from; it stays for the episode."""
        return Belief(mean=state.belief.mean, deviation=state.belief.variance.sqrt())

    def as_module(self, state: Guess, obs: Tensor) -> nn.Module:
        return _GuessingPolicy(self._model, state.z[0])

    def measure(self, state: Guess, obs: Tensor, act: Act, step: Step) -> dict[str, Tensor]:
        """The cost, and the mean deviation of the posterior given all steps until now, with this
        one: it begins at 1, and near 0 the task is known."""
        found = {} if self._cost is None else {"cost": step.terms[self._cost]}
        if self._is_watched:
            precision = self._precision(state, obs, act, step)
            deviation = torch.where(precision > 0, precision.rsqrt(), 1.0)
            found["task deviation"] = deviation.mean(-1)
        return found

    @torch.no_grad()
    def _precision(self, state: Guess, obs: Tensor, act: Act, step: Step) -> Tensor:
        """[W, L] of all steps until now, with this one."""
        unit = self._model.actions.to_unit(act.action)
        variance = self._model.factors(obs, unit, step.reward, step.next_obs).variance
        counts = ~(state.over | step.diverged).unsqueeze(-1)
        return state.precision + counts / variance.clamp(min=LEAST_VARIANCE)

    def _factors(self, data: Trajectories) -> GaussianByVariance:
        """[W, T, L] of the steps of one episode of each world [N, E, T]."""
        actions = self._model.actions.to_unit(data.action)
        found = self._model.factors(data.step_obs, actions, data.reward, data.next_obs)
        counts = data.learnable.unsqueeze(-1)
        variance = found.variance.masked_fill(~counts, torch.inf)
        return GaussianByVariance(mean=found.mean.flatten(0, 1), variance=variance.flatten(0, 1))

    def _posterior(self, factors: GaussianByVariance, noise: Noise) -> GaussianByVariance:
        if self._context_size is not None:
            factors = _drawn(factors, self._context_size, noise)
        found, prior = product(factors), standard(*factors.mean[:, 0].shape, like=factors.mean)
        # All steps of an episode may have blown up.
        known = found.variance.isfinite()
        mean = torch.where(known, found.mean, prior.mean)
        return GaussianByVariance(
            mean=mean, variance=torch.where(known, found.variance, prior.variance)
        )


def _draw(belief: GaussianByVariance, noise: Noise) -> Tensor:
    """A z [W, L] of each world."""
    return belief.at(noise.normal(*belief.mean.shape, dtype=belief.mean.dtype).to(belief.mean))


class _GuessingPolicy(nn.Module):
    """The mode of the policy that acts on one guess z [L]."""

    z: Tensor

    def __init__(self, model: PearlModel, z: Tensor) -> None:
        super().__init__()
        self.policy, self.actions = copy.deepcopy(model.policy), copy.deepcopy(model.actions)
        self.register_buffer("z", z)

    def forward(self, obs: Tensor) -> Tensor:
        seen = torch.cat([obs, self.z.expand(*obs.shape[:-1], -1)], dim=-1)
        return self.actions.to_env(self.policy.act(self.policy(seen), None)[0])


def _drawn(factors: GaussianByVariance, num: int, noise: Noise) -> GaussianByVariance:
    """`num` factors of each world, uniformly and with replacement from those of finite variance;
    the first one where there is none."""
    until = factors.variance[..., 0].isfinite().cumsum(-1)
    rank = drawn_below(until[:, -1:], num, noise)
    index = torch.searchsorted(until, rank, right=True).clamp(max=until.shape[1] - 1).unsqueeze(-1)
    index = index.expand(-1, -1, factors.mean.shape[-1])
    return GaussianByVariance(
        mean=factors.mean.gather(1, index), variance=factors.variance.gather(1, index)
    )


def _fixed(num_episodes: int) -> Noise:
    """What a guess after so many episodes is drawn by where there is no noise: the same numbers
    whenever it is asked for, drawn on the CPU."""
    return Noise(torch.Generator().manual_seed(num_episodes))
