"""Reptile (Nichol et al. 2018, arXiv:1803.02999): train on a task for some steps, then move towards
where that led.

No derivative goes through the inner steps, so they may be many, and of any optimizer.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core import saved
from metarl.core.adapt import over_tasks
from metarl.core.checks import check_below_one, check_counts, check_positive
from metarl.core.gradients import reptile_direction
from metarl.fewshot.algorithms.shared import Setting, answer_metrics
from metarl.fewshot.gradient_adapter import SupportLoss, best_backend, has_batch_norm, predicted
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Examples, FewShotLearner, Needs, TaskSize
from metarl.nn.features import WithHead
from metarl.struct import replace, struct
from metarl.types import Metrics, Params, as_metrics


@struct
class RmsState:
    """Parameters of N tasks under an optimizer that divides each gradient by its running size."""

    params: Params  # [N, ...]
    moments: Params  # [N, ...] running mean of squared gradients
    num_steps: int  # that went into the moments
    reference: Tensor | None = (
        None  # [N, B, ...] inputs of the last update, whose statistics batch norm may take
    )


@struct
class RmsStep:
    """φ ← φ − lr · g / (√v̂ + ε), v ← β v + (1 − β) g²: Adam without momentum (β₁ = 0), as the
    authors' inner loop.

    v̂ = v / (1 − βⁿ) makes up for v's start at zero. Moments are kept from task to task: what one
    learns about the size of gradients holds for the next.
    """

    lr: float
    beta: float
    epsilon: float = 1e-8  # Adam's

    def __call__(self, state: RmsState, grads: Params) -> RmsState:
        num_steps = state.num_steps + 1
        moments = {
            name: self.beta * state.moments[name] + (1 - self.beta) * g.square()
            for name, g in grads.items()
        }
        scale = 1 / (1 - self.beta**num_steps)
        params = {
            name: leaf - self.lr * grads[name] / ((moments[name] * scale).sqrt() + self.epsilon)
            for name, leaf in state.params.items()
        }
        return replace(state, params=params, moments=moments, num_steps=num_steps)


class Reptile(FewShotLearner):
    """One iteration: draw N tasks, train on each for K steps of minibatches, and

        θ ← θ + r (mean over tasks of φᵢ − θ)

    with r falling from `outer_lr` linearly to 0 over `decay_iterations`.

    Args: see configs/learner/reptile.yaml, which also says where each number comes from.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        train_shots: int,
        num_inner_steps: int,
        inner_batch_size: int,
        inner_lr: float,
        inner_beta: float,
        num_test_steps: int,
        test_batch_size: int,
        outer_lr: float,
        decay_iterations: int,
        transductive: bool,
    ) -> None:
        check_counts({"meta_batch_size": meta_batch_size, "train_shots": train_shots})
        check_positive({"inner_lr": inner_lr})
        check_counts({"num_inner_steps": num_inner_steps, "inner_batch_size": inner_batch_size})
        check_counts({"num_test_steps": num_test_steps, "test_batch_size": test_batch_size})
        check_counts({"decay_iterations": decay_iterations})
        check_positive({"outer_lr": outer_lr})
        check_below_one({"inner_beta": inner_beta})
        source, ways = setting.source, setting.size.ways
        self._setting = setting
        self._num_tasks = meta_batch_size
        self._size = TaskSize(ways=ways, shots=train_shots, queries=1)
        self._network = WithHead(
            setting.embed, source.spec.num_outputs(ways), setting.streams.init
        ).to(setting.device)
        self._objective = OBJECTIVES[source.spec.kind]
        self._num_inner_steps = num_inner_steps
        self._inner_batch_size = inner_batch_size
        self._num_test_steps = num_test_steps
        self._test_batch_size = test_batch_size
        self._step = RmsStep(lr=inner_lr, beta=inner_beta)
        self._transductive = transductive
        self._outer_lr = outer_lr
        self._decay_iterations = decay_iterations
        self._params = P.of(self._network)
        self._moments = P.zeros_like(self._params)
        self._num_steps = self._iteration = 0

    @property
    def schedule_end(self) -> int:
        """The iterations after which `outer_lr` is 0."""
        return self._decay_iterations

    def adapter(self) -> "ReptileAdapter":
        return self._adapter(self._num_test_steps, self._test_batch_size)

    def _adapter(self, num_steps: int, batch_size: int) -> "ReptileAdapter":
        return ReptileAdapter(
            self._network,
            RmsState(params=self._params, moments=self._moments, num_steps=self._num_steps),
            self._step,
            loss=SupportLoss(self._network, self._objective),
            num_steps=num_steps,
            batch_size=batch_size,
            transductive=self._transductive,
        )

    def needs(self) -> Needs:
        return Needs(training=self._size, set_by=("train_shots",))

    @torch.no_grad()
    def step(self) -> Metrics:
        episodes = self._setting.draw(self._num_tasks, self._size)
        adapter = self._adapter(self._num_inner_steps, self._inner_batch_size)
        state = adapter.update(adapter.begin(self._num_tasks), episodes.support)
        answer = adapter.predict(state, episodes.query.x)
        direction = reptile_direction(self._params, state.params)
        rate = self._outer_lr * max(0.0, 1 - self._iteration / self._decay_iterations)
        P.assign(self._params, P.add(self._params, direction, -rate))
        P.assign(self._moments, {name: leaf.mean(0) for name, leaf in state.moments.items()})
        self._num_steps = state.num_steps
        self._iteration += 1
        return {
            "tasks": self._num_tasks,
            **as_metrics(answer_metrics(self._objective, answer, episodes.query.y)),
            "meta_gradient_norm": P.norm(direction).item(),
            "outer_lr": rate,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "params": self._params,
            "squared_gradients": self._moments,  # A test step divides by them: no mere optimizer's.
            "num_steps": self._num_steps,
            "iteration": self._iteration,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict())
        P.assign(self._params, state["params"])
        P.assign(self._moments, state["squared_gradients"])
        self._num_steps = state["num_steps"]
        self._iteration = state["iteration"]


class ReptileAdapter:
    """Meets FewShotAdapter: an update is `num_steps` steps on minibatches of the support set.
    Shares memory with `start`."""

    num_updates = 1

    def __init__(
        self,
        network: nn.Module,
        start: RmsState,
        step: RmsStep,
        *,
        loss: Any,
        num_steps: int,
        batch_size: int,
        transductive: bool,
    ) -> None:
        self._network = network
        self._start = start
        self._step = step
        self._loss = loss
        self._num_steps = num_steps
        self._batch_size = batch_size
        self.transductive = transductive and has_batch_norm(network)

    def begin(self, num_tasks: int) -> RmsState:
        return replace(
            self._start,
            params=P.expand(self._start.params, num_tasks),
            moments=P.expand(self._start.moments, num_tasks),
        )

    def update(self, state: RmsState, data: Examples) -> RmsState:
        gradient, backend = torch.func.grad(self._loss), best_backend(self._network)
        count = data.y.shape[1]
        for k in range(self._num_steps):
            first = k * self._batch_size
            # They come in random order.
            last = first + min(self._batch_size, count)
            rows = torch.arange(first, last, device=data.x.device) % count
            batch = Examples(x=data.x[:, rows], y=data.y[:, rows])
            state = self._step(
                state, P.detached(over_tasks(gradient, state.params, batch, backend=backend))
            )
        return replace(state, reference=data.x)

    def predict(self, state: RmsState, x: Tensor) -> Tensor:
        return predicted(
            self._network, state.params, x, state.reference, transductive=self.transductive
        )
