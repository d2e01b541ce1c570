"""GrBAL: a feed-forward model that takes a gradient step on the last M transitions before every
control step, and a planner.

Source: Nagabandi et al. 2019 (arXiv:1803.11347). With `adapt: false` it is the same model and
planner without that step, the baseline that adaptation must beat.

How we differ from the authors' code: the model predicts the reward, too, adapts on it and is
planned with it; theirs predicts observations alone, and plans by each environment's own formula.
"""

from collections.abc import Mapping
from operator import attrgetter
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_counts, check_positive
from metarl.core.chunks import ChunkSums, mean_over_chunks, take
from metarl.core.descent import APART, Descent, clipped_as_torch
from metarl.core.differentiated import Differentiate, Outputs
from metarl.core.linearize import adapt_tasks, linearize_adaptation
from metarl.core.rules import named_rule
from metarl.errors import SettingError, misfit
from metarl.nn.dynamics import FeedForwardDynamics, Transitions, imagined_returns
from metarl.nn.mlp import mlp
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.adapters.planning import PlanningAdapter
from metarl.rl.algorithms.model_based import Practice, squared_error
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    MetaParams,
    Setting,
    Source,
    as_state,
    checked_mode,
    join,
    trial_sizes,
)
from metarl.rl.planning import Planner, Score
from metarl.struct import map_tensors, struct
from metarl.types import InnerRule, Params


@struct
class Regression:
    """Transitions as a model takes them, normalised."""

    inputs: Tensor  # [n, B, O + A]
    targets: Tensor  # [n, B, O + 1]
    mask: Tensor  # [n, B] bool


def regression_loss(outputs: Outputs, batch: Regression) -> Tensor:
    """[n] mean squared error of each task."""
    return squared_error(outputs["output"], batch.targets, batch.mask)


class AdaptiveModel:
    """Meets metarl.rl.adapters.planning.WorldModel. Its memory is the last M transitions of each
    world [W, M, ...].

    Every adaptation starts at the meta-parameters, so that errors don't add up over an episode;
    with none of the M transitions there yet, it ends there, too. It begins with the first of them,
    though training sees whole windows; their code waits until all M are there.
    """

    def __init__(
        self,
        model: FeedForwardDynamics,
        params: MetaParams,
        rule: InnerRule,
        *,
        num_past: int,
        num_inner_steps: int,
    ) -> None:
        """Args: num_inner_steps: 0 leaves the model as it is. Shares memory with the parameters it
        is given."""
        self._model = model
        self._params = params
        self._rule = rule
        self._num_past = num_past
        self._num_inner_steps = num_inner_steps
        self.differentiate: Differentiate = differentiator(
            model.trunk, regression_loss, attrgetter("inputs")
        )

    def empty_memory(self, num_worlds: int) -> Transitions:
        normaliser, rows = self._model.normaliser, (num_worlds, self._num_past)
        obs_size = len(normaliser.output_mean) - 1
        action_size = len(normaliser.input_mean) - obs_size
        zeros = normaliser.input_mean.new_zeros
        return Transitions(
            obs=zeros(*rows, obs_size),
            action=zeros(*rows, action_size),
            next_obs=zeros(*rows, obs_size),
            reward=zeros(*rows),
            mask=zeros(*rows, dtype=torch.bool),
        )

    def remember(self, memory: Transitions, seen: Transitions) -> Transitions:
        new = map_tensors(lambda leaf: leaf.unsqueeze(1), seen)
        leaves = {}
        for name, past in vars(memory).items():
            moved = torch.cat([past[:, 1:], getattr(new, name).to(past)], dim=1)
            leaves[name] = torch.where(seen.mask.reshape(-1, *[1] * (past.ndim - 1)), moved, past)
        return Transitions(**leaves)

    def score(self, memory: Transitions, obs: Tensor) -> Score:
        layers = self._model.layers(self.adapted(memory))

        def score(actions: Tensor) -> Tensor:  # [H, W, C, A] -> [W, C]
            shape = actions.shape[1:3]
            groups = len(layers[0][0])  # W networks, one for each world, or one for all
            start = obs.unsqueeze(1).expand(*shape, -1).reshape(groups, -1, obs.shape[-1])
            rows = actions.reshape(len(actions), groups, -1, actions.shape[-1])
            return imagined_returns(layers, start, rows, self._model.activation).reshape(shape)

        return score

    def error(self, memory: Transitions, seen: Transitions) -> Tensor:
        batch = self.batch(map_tensors(lambda leaf: leaf.unsqueeze(1), seen))
        inputs = batch.inputs
        adapted = self.adapted(memory)
        if self._num_inner_steps == 0:
            adapted = P.expand(self._params.theta, len(inputs))
        outputs = mlp(inputs, self._model.trunk.weights(adapted), self._model.activation)
        return squared_error(outputs, batch.targets, batch.mask)

    def adapted(self, memory: Transitions) -> Params:
        """Parameters after the inner steps on each world's memory, leaves [W, ...]; [1, ...]
        without adaptation."""
        if self._num_inner_steps == 0:
            return P.expand(self._params.theta, 1)
        support = (self.batch(memory),) * self._num_inner_steps
        return adapt_tasks(
            self.differentiate, self._params.theta, support, self._rule, self._params.rule
        )

    def batch(self, data: Transitions) -> Regression:
        normaliser = self._model.normaliser
        return Regression(
            inputs=normaliser.inputs(data.obs, data.action),
            targets=normaliser.targets(data),
            mask=data.mask,
        )


class GrBAL(GatheringLearner):
    """One iteration: play trials on N tasks, planning with the model as it adapts; then take Adam
    steps on

        1/B Σ_b ℓ(φ_b; the K transitions after),     φ_b = rule(θ, ∇ℓ(θ; the M transitions before))

    over windows of M + K consecutive transitions of one trial, with ℓ the squared error of the
    normalised changes of the observation and rewards. The task is taken to stay the same within a
    window, and no longer.

    Args: see configs/algo/grbal.yaml, which also says where each number comes from.
    Raises: ValueError, naming it, for a number out of range, a model or an action space that
    doesn't fit.
    """

    sizes = staticmethod(trial_sizes)

    def __init__(
        self,
        *,
        setting: Setting,
        adapt: bool,
        num_past: int,
        num_future: int,
        num_inner_steps: int,
        inner_rule: str | InnerRule,
        inner_lr: float,
        gradient_mode: str,
        lr: float,
        num_gradient_steps: int,
        batch_size: int,
        chunk: int,
        max_grad_norm: float | None,
        random_iterations: int,
        buffer_trials: int,
        planner: Mapping[str, Any],
        **sizes: int,
    ) -> None:
        check_counts(
            {"num_past": num_past, "num_future": num_future, "num_inner_steps": num_inner_steps}
        )
        check_counts({"num_gradient_steps": num_gradient_steps})
        check_counts({"batch_size": batch_size, "chunk": chunk})
        check_positive({"inner_lr": inner_lr, "lr": lr, "max_grad_norm": max_grad_norm})
        env, model = setting.env, setting.model
        if not isinstance(model, FeedForwardDynamics):
            raise misfit(model, FeedForwardDynamics, "feed_forward_dynamics")
        num_steps = env.spec.horizon * sizes["episodes_per_trial"]
        if num_past + num_future > num_steps:
            raise SettingError(
                f"num_past {num_past} and num_future {num_future}: a window of "
                f"{num_past + num_future} steps doesn't fit "
                f"into a trial of {num_steps}"
            )
        rule = named_rule(inner_rule, inner_lr, num_steps=num_inner_steps)
        theta = P.of(model.trunk)
        self.params = MetaParams(
            theta=theta, rule={name: leaf.clone() for name, leaf in rule.init(theta).items()}
        )
        self._rule = rule
        self._mode = checked_mode(gradient_mode)
        self._num_inner_steps = num_inner_steps if adapt else 0
        self._model = AdaptiveModel(
            model, self.params, rule, num_past=num_past, num_inner_steps=self._num_inner_steps
        )
        self._adapter = PlanningAdapter(
            self._model, Planner(**planner), env.action_space, setting.device
        )
        self.source = Source.of(setting, trial_sizes(**sizes))
        self._practice = Practice(
            source=self.source,
            normaliser=model.normaliser,
            random_iterations=random_iterations,
            buffer_trials=buffer_trials,
        )
        self.experience = self._practice.trials
        self._normaliser = model.normaliser
        self._generator = setting.streams.policy.alone
        self._num_past = num_past
        self._num_future = num_future
        self._num_gradient_steps = num_gradient_steps
        self._batch_size = batch_size
        self._chunk = chunk
        self._descent = Descent(
            self.params.joined, lr=lr, max_norm=max_grad_norm, clip=clipped_as_torch
        )

    def adapter(self) -> PlanningAdapter[Transitions]:
        return self._adapter

    def iteration(self) -> Iteration:
        metrics = yield from self._practice.gather(self._adapter)
        losses, norms = [], []
        for _ in range(self._num_gradient_steps):
            length = self._num_past + self._num_future
            windows = self._practice.trials.windows(self._batch_size, length, self._generator)
            loss, gradient = self.meta_gradient(windows)
            norms.append(self._descent.against(gradient).item())
            losses.append(loss.item())
        return {**metrics, "model_loss": mean(losses), "meta_gradient_norm": mean(norms)}

    def meta_gradient(self, windows: Transitions) -> tuple[Tensor, Params]:
        """The mean loss [] over windows [B, M + K, ...], and its gradient by the names of
        `MetaParams.joined`."""
        past = self._model.batch(windows.steps(slice(None, self._num_past)))
        future = self._model.batch(windows.steps(slice(self._num_past, None)))

        def of_chunk(chosen: slice) -> ChunkSums:
            support = (take(past, chosen),) * self._num_inner_steps
            if not support:
                unadapted = P.expand(self.params.theta, chosen.stop - chosen.start)
                point = self._model.differentiate(unadapted, take(future, chosen))
                gradient = join(P.sum_tasks(point.gradient), P.zeros_like(self.params.rule))
                return ChunkSums(gradient=gradient, numbers={"loss": point.value.sum()})
            adaptation = linearize_adaptation(
                self._model.differentiate,
                self.params.theta,
                support,
                self._rule,
                self.params.rule,
                self._mode,
            )
            point = self._model.differentiate(adaptation.adapted, take(future, chosen))
            gradient = join(*adaptation.pullback(point.gradient))
            return ChunkSums(gradient=gradient, numbers={"loss": point.value.sum()})

        found = mean_over_chunks(of_chunk, len(windows.mask), self._chunk, windows.mask.device)
        return found.numbers["loss"], found.gradient

    def state_dict(self) -> dict[str, Any]:
        return as_state(
            self.params,
            normaliser=self._normaliser.state_dict(),
            experience=self._practice.state_dict(),
            **self._descent.state_dict(),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict(), apart=(*APART, "experience"))
        self.params.assign(state["params"])
        self._normaliser.load_state_dict(state["normaliser"])
        self._descent.load_state_dict(state)
        self._practice.load_state_dict(state.get("experience"))
