"""Recurrent model-based control: an ensemble of models whose memory carries what the trial has
shown, and a planner.

Chua et al. 2018 (arXiv:1805.12114) for planning with an ensemble, Nagabandi et al. 2019
(arXiv:1803.11347, ReBAL) for models with a memory; see `metarl.nn.dynamics.RecurrentDynamics` for
how the two meet. The reward is predicted, too; in both codes the environment's own formula is planned
with.
"""

from collections.abc import Iterator, Mapping
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from metarl.core import saved
from metarl.core.checks import check_counts, check_positive
from metarl.core.descent import APART, Descent, clipped_as_torch
from metarl.errors import misfit
from metarl.nn.dynamics import RecurrentDynamics, Transitions, imagined_returns
from metarl.rl.adapters.planning import PlanningAdapter
from metarl.rl.algorithms.model_based import Practice, squared_error
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    trial_sizes,
)
from metarl.rl.planning import Planner, Score


class RememberingModel:
    """Meets metarl.rl.adapters.planning.WorldModel. Its memory is that of the M models [M, W, K].

    Each candidate is scored by all M models, and their mean is what counts: a plan that only one of
    them likes is no good, and candidates compete on equal terms, which they don't if each is scored
    by one model.

    Simpler than Chua et al.'s: the models predict without a variance, and see the same data; they
    differ in their first weights alone. Their gradients are clipped together.
    """

    def __init__(self, model: RecurrentDynamics) -> None:
        self._model = model

    def empty_memory(self, num_worlds: int) -> Tensor:
        return self._model.empty_memory(num_worlds).detach()

    def remember(self, memory: Tensor, seen: Transitions) -> Tensor:
        after = self._model.remember(memory, self._model.evidence(seen))
        return torch.where(seen.mask.unsqueeze(-1), after, memory)

    def score(self, memory: Tensor, obs: Tensor) -> Score:
        layers = self._model.layers(memory)

        def score(actions: Tensor) -> Tensor:  # [H, W, C, A] -> [W, C]
            models, shape = self._model.num_models, actions.shape[1:3]
            start = obs.unsqueeze(1).expand(*shape, -1).flatten(0, 1).expand(models, -1, -1)
            rows = actions.flatten(1, 2).unsqueeze(1).expand(-1, models, -1, -1)
            return (
                imagined_returns(layers, start, rows, self._model.activation).mean(0).reshape(shape)
            )

        return score

    def error(self, memory: Tensor, seen: Transitions) -> Tensor:
        normaliser = self._model.normaliser
        predicted = self._model.predict(normaliser.inputs(seen.obs, seen.action), memory).mean(0)
        rows = (predicted, normaliser.targets(seen), seen.mask)
        return squared_error(*(leaf.unsqueeze(1) for leaf in rows))


class RecurrentMBRL(GatheringLearner):
    """One iteration: play trials on N tasks, planning with the models' memories; then go through
    kept trials, and every `segment` steps take an Adam step on the squared error of the normalised
    changes of the observation and rewards.

    The memory goes on from segment to segment, the gradient doesn't: so that it is trained at the
    lengths at which it acts. A step is predicted from the memory of up to H − 1 steps before it,
    drawn for each step, with H the planning horizon: a plan holds its memory, which must therefore
    know the task and not the moment.

    Args: see configs/algo/recurrent_mbrl.yaml, which also says where each number comes from.
    Raises: ValueError, naming it, for a number out of range, a model or an action space that
    doesn't fit.
    """

    sizes = staticmethod(trial_sizes)

    def __init__(
        self,
        *,
        setting: Setting,
        lr: float,
        num_sweeps: int,
        batch_size: int,
        segment: int,
        max_grad_norm: float | None,
        random_iterations: int,
        buffer_trials: int,
        planner: Mapping[str, Any],
        **sizes: int,
    ) -> None:
        check_counts({"num_sweeps": num_sweeps, "batch_size": batch_size, "segment": segment})
        check_positive({"lr": lr, "max_grad_norm": max_grad_norm})
        model = setting.model
        if not isinstance(model, RecurrentDynamics):
            raise misfit(model, RecurrentDynamics, "recurrent_dynamics")
        self._model = model
        actions = setting.env.action_space
        self._adapter = PlanningAdapter(
            RememberingModel(model), Planner(**planner), actions, setting.device
        )
        self.source = Source.of(setting, trial_sizes(**sizes))
        self._practice = Practice(
            source=self.source,
            normaliser=model.normaliser,
            random_iterations=random_iterations,
            buffer_trials=buffer_trials,
        )
        self.experience = self._practice.trials
        self._generator = setting.streams.policy.alone
        self._planning_horizon = planner["horizon"]
        self._num_sweeps = num_sweeps
        self._batch_size = batch_size
        self._segment = segment
        parameters = dict(model.named_parameters())
        self._descent = Descent(parameters, lr=lr, max_norm=max_grad_norm, clip=clipped_as_torch)

    def adapter(self) -> PlanningAdapter[Tensor]:
        return self._adapter

    def iteration(self) -> Iteration:
        metrics = yield from self._practice.gather(self._adapter)
        losses, norms = [], []
        for _ in range(self._num_sweeps):
            memory = self._model.empty_memory(self._batch_size)
            for segment in self._sweep():
                loss, memory = self.loss(memory, segment, self._sources(segment))
                norms.append(self._descent.down(loss).item())
                losses.append(loss.item() / self._model.num_models)
                memory = memory.detach()
        return {**metrics, "model_loss": mean(losses), "gradient_norm": mean(norms)}

    def _sweep(self) -> Iterator[Transitions]:
        """A batch of trials from their start to their end, segment by segment; leaves [B, segment,
        ...]."""
        trials = self._practice.trials
        generator = self._generator
        chosen = torch.randint(
            len(trials), (self._batch_size,), generator=generator, device=generator.device
        )
        data = trials.whole(chosen)
        for start in range(0, data.mask.shape[1], self._segment):
            yield data.steps(slice(start, start + self._segment))

    def _sources(self, data: Transitions) -> Tensor:
        """[B, T] the step whose memory predicts each step: at most H − 1 before it, and none before
        the segment."""
        generator = self._generator
        back = torch.randint(
            self._planning_horizon, data.mask.shape, generator=generator, device=generator.device
        )
        return (torch.arange(data.mask.shape[1], device=generator.device) - back).clamp(min=0)

    def loss(self, memory: Tensor, data: Transitions, sources: Tensor) -> tuple[Tensor, Tensor]:
        """The squared error of B stretches of T steps, summed over models, and the memory [M, B, K]
        after them.

        Steps that are masked leave the memory as it is and count for nothing.
        Args: sources: [B, T] the step before which the memory is taken that predicts each step.
        """
        model = self._model
        along = model.memories(memory, model.evidence(data), data.mask)
        rows = torch.arange(len(sources), device=sources.device).unsqueeze(1)
        inputs = model.normaliser.inputs(data.obs, data.action).flatten(0, 1)
        predicted = model.predict(inputs, along[:, rows, sources].flatten(1, 2))
        errors = squared_error(
            predicted, model.normaliser.targets(data).flatten(0, 1), data.mask.flatten()
        )
        return errors.sum(), along[:, :, -1]

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "experience": self._practice.state_dict(),
            **self._descent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict(), apart=(*APART, "experience"))
        self._model.load_state_dict(state["model"])
        self._descent.load_state_dict(state)
        self._practice.load_state_dict(state.get("experience"))
