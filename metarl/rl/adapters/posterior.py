"""How an agent that infers its task meets new ones: what it holds for an episode is a guess z of
the task, drawn from what all steps of the trial so far say of it.

To explore is to act as if the guess were right. The first guesses come from the prior.

Source: Rakelly et al. 2019 (arXiv:1903.08254, section 5).
"""

import torch
from torch import Tensor

from metarl.nn.task_posterior import Gaussian, product, standard
from metarl.noise import Noise
from metarl.rl.models.pearl import PearlModel
from metarl.rl.types import Act, RLAdapter, Step, Trajectories
from metarl.struct import struct


@struct
class Guess:
    """Where each of W trials stands."""

    z: Tensor  # [W, L] held for the present episode
    belief: Gaussian  # [W, L] what z was drawn from
    factors: Gaussian | None
    """[W, n, L] of all steps so far; their variance is infinite where no step was."""
    num_episodes: int  # that are over


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
    """

    def __init__(
        self,
        model: PearlModel,
        *,
        exploration_episodes: int,
        context_size: int | None = None,
        cost: str | None = None,
    ) -> None:
        self._model, self._exploration_episodes = model, exploration_episodes
        self._context_size, self._cost = context_size, cost

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Guess:
        like = self._model.actions.low
        belief = standard(num_tasks * episodes_per_task, self._model.latent_size, like=like)
        return self._guess(belief, None, 0, noise)

    def believing(self, belief: Gaussian, noise: Noise) -> Guess:
        """The state at the start of an episode of which this much [W, L] is known."""
        return self._guess(belief, None, self._exploration_episodes, noise)

    @torch.no_grad()
    def act(self, state: Guess, obs: Tensor, noise: Noise | None) -> Act:
        actions = self._model.actions
        unit, log_prob = self._model.policy.act(self._model.outputs(obs, state.z), noise)
        return Act(action=actions.to_env(unit), log_prob=log_prob - actions.log_stretch)

    @torch.no_grad()
    def update(self, state: Guess, data: Trajectories, noise: Noise | None = None) -> Guess:
        """The next episode begins: z is drawn anew, after the first ones from the posterior."""
        found = self._factors(data)
        if state.factors is not None:
            mean = torch.cat([state.factors.mean, found.mean], dim=1)
            found = Gaussian(
                mean=mean, variance=torch.cat([state.factors.variance, found.variance], dim=1)
            )
        num_episodes = state.num_episodes + 1
        if num_episodes < self._exploration_episodes:
            return self._guess(standard(*state.z.shape, like=state.z), found, num_episodes, noise)
        return self._guess(self._posterior(found, num_episodes, noise), found, num_episodes, noise)

    def measure(self, state: Guess, obs: Tensor, act: Act, step: Step) -> dict[str, Tensor]:
        return {} if self._cost is None else {"cost": step.terms[self._cost]}

    def _factors(self, data: Trajectories) -> Gaussian:
        """[W, T, L] of the steps of one episode of each world [N, E, T]."""
        actions = self._model.actions.to_unit(data.action)
        found = self._model.factors(data.step_obs, actions, data.reward, data.next_obs)
        counts = (data.mask & ~data.diverged).unsqueeze(-1)
        variance = found.variance.masked_fill(~counts, torch.inf)
        return Gaussian(mean=found.mean.flatten(0, 1), variance=variance.flatten(0, 1))

    def _posterior(self, factors: Gaussian, num_episodes: int, noise: Noise | None) -> Gaussian:
        if self._context_size is not None:
            factors = _drawn(factors, self._context_size, noise or _fixed(num_episodes))
        found, prior = product(factors), standard(*factors.mean[:, 0].shape, like=factors.mean)
        # All steps of an episode may have blown up.
        known = found.variance.isfinite()
        mean = torch.where(known, found.mean, prior.mean)
        return Gaussian(mean=mean, variance=torch.where(known, found.variance, prior.variance))

    @staticmethod
    def _guess(
        belief: Gaussian, factors: Gaussian | None, num_episodes: int, noise: Noise | None
    ) -> Guess:
        noise = noise or _fixed(num_episodes)
        drawn = noise.normal(*belief.mean.shape, dtype=belief.mean.dtype).to(belief.mean)
        return Guess(z=belief.at(drawn), belief=belief, factors=factors, num_episodes=num_episodes)


def _drawn(factors: Gaussian, num: int, noise: Noise) -> Gaussian:
    """`num` factors of each world, uniformly and with replacement from those of finite variance;
    the first one where there is none."""
    until = factors.variance[..., 0].isfinite().cumsum(-1)
    total = until[:, -1:]
    uniform = noise.uniform(len(total), num, dtype=torch.float64).to(total.device)
    # A product with a number just below 1 may be rounded up.
    rank = (uniform * total).long().minimum(total - 1).clamp(min=0)
    index = torch.searchsorted(until, rank, right=True).clamp(max=until.shape[1] - 1).unsqueeze(-1)
    index = index.expand(-1, -1, factors.mean.shape[-1])
    return Gaussian(mean=factors.mean.gather(1, index), variance=factors.variance.gather(1, index))


def _fixed(seed: int) -> Noise:
    """The same numbers whenever it is asked for, drawn on the CPU."""
    return Noise(torch.Generator().manual_seed(seed))
