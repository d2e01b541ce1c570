"""E-MAML's term: the sampling of an inner step's data gets credit for the return of the policies
that the step leads to.

Without it the meta-gradient takes the data as given, and misses that θ decides what is seen.

Source: Stadie et al. 2018 (arXiv:1803.01118).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.core.checks import check_not_negative
from metarl.core.differentiated import OutputLoss
from metarl.errors import SettingError
from metarl.nn.heads import Outputs, PolicyModule
from metarl.nn.latent import latent_log_prob
from metarl.rl.data.batches import PolicyBatch
from metarl.rl.losses import e_maml
from metarl.struct import struct


@struct
class Credited:
    """The data of one inner step, and what came of it."""

    batch: PolicyBatch
    worth: Tensor
    """[N] standardised return of the judged policies after the step."""


def check_exploration(coefficient: float, meta_batch_size: int) -> None:
    """Raises: ValueError for a negative weight, or a single task, which has nothing to be compared
    with."""
    check_not_negative({"exploration_coefficient": coefficient})
    if coefficient > 0 and meta_batch_size < 2:
        raise SettingError(
            f"meta_batch_size {meta_batch_size}: expected 2 or more, because E-MAML compares the "
            "returns of tasks"
        )


def worth_of_steps(returns: Sequence[Tensor], judged: Sequence[int]) -> list[Tensor]:
    """Says what each of K inner steps led to: [N] each.

        Rₖ = 1/M Σ_{j judged, j > k} mean return of φⱼ
        worth = (Rₖ − mean Rₖ of the other tasks) / deviation of Rₖ over tasks

    The baseline comes from other tasks alone. One that depended on the task's own episodes would
    take part of the gradient with it. The deviation that divides is that of all tasks, this one
    among them: a small bias, the larger the fewer tasks there are.

    Args:
      returns: K + 1 times [N, E], of the policies after 0, ..., K inner steps; NaN for episodes
        that say nothing. A task with no others is taken for one like the rest.
      judged: which of them the outer loss judges, M numbers from 1 to K.
    """
    means = [_means(episodes) for episodes in returns]
    num_tasks, found = len(means[0]), []
    for k in range(len(returns) - 1):
        led_to = torch.stack([means[j] for j in judged if j > k]).sum(0) / len(judged)
        apart = (led_to - led_to.mean()) * num_tasks / max(1, num_tasks - 1)
        found.append(apart / (led_to.std(correction=0) + 1e-8))
    return found


def _means(returns: Tensor) -> Tensor:
    """[N] of each task's episodes [N, E] that aren't NaN; the mean of the others where all are."""
    means = returns.nanmean(-1)
    return torch.where(means.isnan(), means.nanmean().nan_to_num(0.0), means)


def exploration_loss(policy: PolicyModule) -> OutputLoss:
    """Returns the loss −worth · 1/B log π(all actions of the step's data, and its latents): [n]."""

    def loss(outputs: Outputs, data: Credited) -> Tensor:
        batch = data.batch
        per_step = data.worth / batch.mask.sum(-1).clamp(min=1)  # 0 where nothing counts
        of_actions = e_maml(policy.log_prob(outputs, batch.action), per_step, batch.mask)
        if not policy.latent_size:
            return of_actions
        assert batch.episode_latent is not None
        log_prob = latent_log_prob(outputs, batch.episode_latent.value)
        return of_actions + e_maml(log_prob, per_step, torch.ones_like(log_prob, dtype=torch.bool))

    return loss
