"""Makes what policy losses take out of trajectories: flattened steps with advantages, task by
task."""

import torch
from torch import Tensor

from metarl.rl.baselines import linear_feature_baseline
from metarl.rl.returns import discounted_returns, gae, of_next_step
from metarl.rl.types import EpisodeLatent, Trajectories
from metarl.struct import struct

MEANS_OVER = ("steps", "episodes")
"""What counts alike in a task's means: each step, or each episode, so that the steps of short
episodes count more."""

_ROUNDING = 1e-6
"""The largest deviation, beside the mean, that float32's rounding makes of numbers that are the
same."""


@struct
class PolicyBatch:
    """The steps of N tasks, B = E * T each; n of N tasks after slicing."""

    obs: Tensor  # [N, B, O]
    action: Tensor  # [N, B, A] or [N, B]
    log_prob: Tensor  # [N, B] of the policy that acted
    advantage: Tensor  # [N, B] zero mean and unit deviation within each task, 0 on padding
    mask: Tensor  # [N, B] bool, False on padding and where the physics blew up
    weight: Tensor  # [N, B] of a step in its task's means: `mask`, or `mask` / its episode's length
    episode_latent: EpisodeLatent | None = None
    """The latents of the E episodes, where the policy has any; `obs` then ends with them, [N, B, O
    + L]."""
    episode_advantage: Tensor | None = None
    """[N, E] the episodes' returns with zero mean and unit deviation within each task: what their
    latents are judged by."""


def policy_batch(
    trajectories: Trajectories, *, discount: float, gae_lambda: float, mean_over: str = "steps"
) -> PolicyBatch:
    """Fits the linear feature baseline to each task, estimates advantages, and normalises them
    within each task by means over its steps or over its episodes (`MEANS_OVER`).

    The baseline estimates the return up to the time limit, so nothing is bootstrapped beyond it.
    Where the physics blew up, it stands for what would have come, as far as the task's other
    episodes tell: a policy whose rewards are negative would else learn to end its episodes so.

    Raises: FloatingPointError, naming the tensor, if the data isn't finite.
    """
    t = trajectories
    returns = discounted_returns(t.reward, discount=discount)
    obs, of_episodes, whole = t.step_obs, None, ~t.diverged.any(-1)
    if t.episode_latent is not None:
        latent = t.episode_latent.value[:, :, None].expand(-1, -1, obs.shape[2], -1)
        obs = torch.cat([obs, latent], dim=-1)
        of_episodes = normalise(t.returns, whole)
    value = linear_feature_baseline(obs, returns, t.mask, whole)
    # The last step of an episode, by failure or by the time limit: the finite-horizon value after
    # both is 0.
    done, mask = (t.terminated | t.truncated) & t.mask, t.learnable
    advantage = gae(
        *(t.reward, value, of_next_step(value), done, done | t.blows_up_next),
        discount=discount,
        gae_lambda=gae_lambda,
    )
    weight = mask if mean_over == "steps" else mask / mask.sum(-1, keepdim=True).clamp(min=1)
    return PolicyBatch(
        obs=obs.flatten(1, 2),
        action=t.action.flatten(1, 2),
        log_prob=t.log_prob.flatten(1),
        advantage=normalise(advantage.flatten(1), weight.flatten(1)),
        mask=mask.flatten(1),
        weight=weight.flatten(1),
        episode_latent=t.episode_latent,
        episode_advantage=of_episodes,
    )


def normalise(advantage: Tensor, weight: Tensor) -> Tensor:
    """Zero mean and unit deviation over each row's entries by their weights, bool or numbers; 0
    where a weight is 0, and where all entries of a row are the same but for their rounding.

    Per task and not over the meta-batch: tasks whose rewards are larger must not drown the others.
    """
    count = weight.sum(-1, keepdim=True)
    count = count + (count == 0)  # A row without weight has nothing but zeros.
    mean = (advantage * weight).sum(-1, keepdim=True) / count
    centred = (advantage - mean) * (weight != 0)
    deviation = ((centred.square() * weight).sum(-1, keepdim=True) / count).sqrt()
    rounding = deviation <= _ROUNDING * mean.abs()
    return (centred / (deviation + 1e-8)).masked_fill(rounding, 0.0)
