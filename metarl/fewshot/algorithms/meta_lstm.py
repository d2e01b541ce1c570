"""Meta-LSTM: an LSTM is the optimizer, and its cell state the learner's parameters; where they
start is learned with it.

Source: Ravi & Larochelle 2017 (Optimization as a model for few-shot learning, ICLR). The optimizer
itself is in `metarl.core.lstm_update`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.adapt import grad_over_tasks, over_tasks
from metarl.core.checks import check_counts, check_positive
from metarl.core.lstm_update import LstmUpdate, UpdateState, lstm_step
from metarl.core.rules import Sgd
from metarl.fewshot.algorithms.shared import Meta, Setting, meta_descend
from metarl.fewshot.gradient_adapter import (
    GradientAdapter,
    SupportLoss,
    answers,
    best_backend,
    has_batch_norm,
    predicted,
)
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Examples, FewShotLearner, Needs
from metarl.nn.features import WithHead
from metarl.struct import struct
from metarl.types import LossFn, Metrics, Params


class MetaLstm(FewShotLearner):
    """One iteration: draw N tasks, let the LSTM take K steps on each one's support set, and take an
    Adam step on the mean loss of the queries, in the LSTM's weights and the parameters θ₀ that it
    starts from.

    No derivative goes through the inner gradients (their section 3.2).

    Args: see configs/learner/meta_lstm.yaml, which also says where each number comes from.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        num_inner_steps: int,
        num_test_steps: int,
        hidden_size: int,
        forget_bias: Sequence[float],
        input_bias: Sequence[float],
        outer_lr: float,
        max_grad_norm: float | None,
        transductive: bool,
        fine_tuning_lrs: Sequence[float],
    ) -> None:
        check_positive({f"fine_tuning_lrs[{k}]": lr for k, lr in enumerate(fine_tuning_lrs)})
        self.fine_tuning_lrs = tuple(fine_tuning_lrs)
        check_counts({"meta_batch_size": meta_batch_size, "num_inner_steps": num_inner_steps})
        check_counts({"num_test_steps": num_test_steps})
        source, device, generator = setting.source, setting.device, setting.streams.init
        self._setting = setting
        self._num_tasks = meta_batch_size
        self._num_inner_steps = num_inner_steps
        self._num_test_steps = num_test_steps
        self._network = network = WithHead(
            setting.embed, source.spec.num_outputs(setting.size.ways), generator
        ).to(device)
        self._update = LstmUpdate(
            hidden_size, forget_bias=forget_bias, input_bias=input_bias, generator=generator
        ).to(device)
        self._transductive = transductive or not has_batch_norm(network)
        self._objective = OBJECTIVES[source.spec.kind]
        self._loss = SupportLoss(network, self._objective)
        self._backend = best_backend(network)
        groups = {"network": P.of(network), "update": P.of(self._update)}
        self._meta = Meta(groups, lr=outer_lr, max_norm=max_grad_norm)

    def adapter(self) -> "MetaLstmAdapter":
        return MetaLstmAdapter(
            self._network,
            self._meta.groups["network"],
            self._update,
            self._meta.groups["update"],
            self._loss,
            num_updates=self._num_test_steps,
            transductive=self._transductive,
        )

    def fine_tuning(self, lr: float) -> GradientAdapter:
        """What the LSTM is to beat: as many plain gradient steps of this rate from the same θ₀."""
        start, rule = self._meta.groups["network"], Sgd(lr)
        return GradientAdapter(
            *(self._network, start, rule, rule.init(start), self._objective),
            num_updates=self._num_test_steps,
            transductive=self._transductive,
        )

    @property
    def learned(self) -> dict[str, Params]:
        """The meta-learned parameters by group. The tensors stay the same objects; they are written
        in place."""
        return self._meta.groups

    def needs(self) -> Needs:
        return Needs(training=self._setting.size)

    def step(self) -> Metrics:
        episodes = self._setting.draw(self._num_tasks)
        return meta_descend(self._meta, self.meta_gradient, self._objective, episodes)

    def meta_gradient(self, learned: dict[str, Params], support: Examples, query: Examples) -> Any:
        """Query losses [N] after adaptation, the gradient of their mean, and each task's accuracy
        (or squared error) [N]."""
        return grad_over_tasks(
            self._task, learned, support, query, backend=self._backend, has_aux=True
        )

    def _task(
        self, learned: Mapping[str, Params], support: Examples, query: Examples
    ) -> tuple[Tensor, Tensor]:
        """One task's query loss after adaptation, and its accuracy (or squared error) beside it."""
        start = learned["network"]
        state = self._update.begin(P.flatten(start))
        for _ in range(self._num_inner_steps):
            state = lstm_step(
                self._loss, self._update, learned["update"], state, support, like=start
            )
        reference = None if self._transductive else support.x
        answer = answers(self._network, P.unflatten(state.theta, start), query.x, reference)
        return self._objective.loss(answer, query.y), self._objective.measure(
            answer.detach(), query.y
        )

    def state_dict(self) -> dict[str, Any]:
        return self._meta.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._meta.load_state_dict(state)


@struct
class Optimized:
    update: UpdateState  # leaves [N, ...]
    # [N, B, ...] inputs of the last update, whose statistics batch norm may take
    reference: Tensor | None


class MetaLstmAdapter:
    """Meets FewShotAdapter: an update is a step of the LSTM. Shares memory with the parameters it
    was given."""

    def __init__(
        self,
        network: nn.Module,
        start: Params,
        update: LstmUpdate,
        update_params: Params,
        loss: LossFn,
        *,
        num_updates: int,
        transductive: bool,
    ) -> None:
        self._network = network
        self._start = start
        self._loss = loss
        self._update = update
        self._update_params = update_params
        self.num_updates = num_updates
        self.transductive = transductive and has_batch_norm(network)

    def begin(self, num_tasks: int) -> Optimized:
        return Optimized(
            update=self._update.begin(P.flatten(P.expand(self._start, num_tasks), 1)),
            reference=None,
        )

    @torch.no_grad()
    def update(self, state: Optimized, data: Examples) -> Optimized:
        def one(before: UpdateState, batch: Examples) -> UpdateState:
            return lstm_step(
                self._loss, self._update, self._update_params, before, batch, like=self._start
            )

        after = over_tasks(one, state.update, data, backend=best_backend(self._network))
        return Optimized(update=after, reference=data.x)

    @torch.no_grad()
    def predict(self, state: Optimized, x: Tensor) -> Tensor:
        params = P.unflatten(state.update.theta, self._start)
        return predicted(self._network, params, x, state.reference, transductive=self.transductive)
