"""A memory learner whose initialisation comes from MAML: it reads the support set into its memory,
and inner gradient steps on its own parameters make it answer the support set from there.

The reader is that of `metarl.fewshot.algorithms.mann`, the inner and outer gradients those of Finn
et al. 2017 (arXiv:1703.03400). Without inner steps it is a memory learner alone, with `NoMemory`
MAML alone.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.adapt import Backend, adapt, grad_over_tasks, over_tasks
from metarl.core.checks import check_counts, check_not_negative, check_positive
from metarl.core.gradients import Mode, check_mode
from metarl.core.rules import named_rule
from metarl.fewshot.algorithms.mann import Reader, reader
from metarl.fewshot.algorithms.shared import Meta, Setting, meta_descend
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Examples, FewShotLearner, Needs
from metarl.struct import struct
from metarl.types import InnerRule, LossFn, Metrics, Params

BACKEND: Backend = "loop"  # torch's fused LSTM cells know no vmap.


class OneTask(nn.Module):
    """A reader for one task: x [B, ...] after the support Examples [S, ...] -> [B, W]. Batch norm
    takes the support set's statistics."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        count = len(support.x)
        own, asked = self.reader.embed(torch.cat([support.x, x]), count).split([count, len(x)])
        return self.reader.answers(own[None], support.y[None], asked[None])[0]


class MamlMemory(FewShotLearner):
    """One iteration: draw N tasks, take K inner steps on each one's support set, and an Adam step
    on the mean loss of the queries,

        φ ← rule(φ, ∇ℓ(answers(S, x_S; φ); y_S)) from θ,     outer loss ℓ(answers(S, x_Q; φ); y_Q)

    where answers(S, x; φ) are those of the reader with parameters φ to x after reading the support
    set S. Each support example is thus asked again when all of them have been read.

    Args: see configs/learner/maml_memory.yaml.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        memory: Any,
        meta_batch_size: int,
        num_inner_steps: int,
        num_test_steps: int,
        inner_lr: float,
        gradient_mode: Mode,
        outer_lr: float,
        max_grad_norm: float | None,
    ) -> None:
        check_counts({"meta_batch_size": meta_batch_size})
        check_positive({"inner_lr": inner_lr})
        check_not_negative({"num_inner_steps": num_inner_steps, "num_test_steps": num_test_steps})
        source, size = setting.source, setting.size
        self._setting = setting
        self._num_tasks = meta_batch_size
        self._num_inner_steps = num_inner_steps
        self._num_test_steps = num_test_steps
        self._network = OneTask(reader(setting, setting.embed, memory)).to(setting.device)
        self._objective = OBJECTIVES[source.spec.kind]
        self._num_outputs = source.spec.num_outputs(size.ways)
        self._rule = named_rule("sgd", inner_lr)
        self._mode = gradient_mode
        check_mode(gradient_mode, self._rule)
        self._meta = Meta({"network": P.of(self._network)}, lr=outer_lr, max_norm=max_grad_norm)

    def adapter(self) -> "MamlMemoryAdapter":
        return MamlMemoryAdapter(
            self._network,
            self._meta.groups["network"],
            self._rule,
            self._loss,
            num_outputs=self._num_outputs,
            num_steps=self._num_test_steps,
            mode=self._mode,
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
        return grad_over_tasks(self._task, learned, support, query, backend=BACKEND, has_aux=True)

    def _task(
        self, learned: Mapping[str, Params], support: Examples, query: Examples
    ) -> tuple[Tensor, Tensor]:
        """One task's query loss after adaptation, and its accuracy (or squared error) beside it."""
        steps = (support,) * self._num_inner_steps
        adapted = adapt(self._loss, learned["network"], steps, self._rule, mode=self._mode)
        answer = P.call(self._network, adapted, support, query.x)
        return self._objective.loss(answer, query.y), self._objective.measure(
            answer.detach(), query.y
        )

    def _loss(self, params: Params, support: Examples) -> Tensor:
        """What an inner step lowers: the loss of the answers to the support set, after reading
        it."""
        return self._objective.loss(
            cast(Tensor, P.call(self._network, params, support, support.x)), support.y
        )

    def state_dict(self) -> dict[str, Any]:
        return self._meta.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._meta.load_state_dict(state)


@struct
class Read:
    params: Params  # [N, ...]
    support: Examples | None  # what was read; None before any


class MamlMemoryAdapter:
    """Meets FewShotAdapter: an update reads the support set and takes all inner steps, from θ each
    time. Before any it answers that all is equally likely, or zero. Shares memory with the
    parameters it was given."""

    num_updates = 1
    transductive = False

    def __init__(
        self,
        network: OneTask,
        params: Params,
        rule: InnerRule,
        loss: LossFn,
        *,
        num_outputs: int,
        num_steps: int,
        mode: Mode,
    ) -> None:
        self._network = network
        self._params = params
        self._rule = rule
        self._loss = loss
        self._num_outputs = num_outputs
        self._num_steps, self._mode = num_steps, mode

    def begin(self, num_tasks: int) -> Read:
        return Read(params=P.expand(self._params, num_tasks), support=None)

    @torch.no_grad()
    def update(self, state: Read, data: Examples) -> Read:
        def one(batch: Examples) -> Params:
            steps = (batch,) * self._num_steps
            return adapt(self._loss, self._params, steps, self._rule, mode=self._mode)

        if self._num_steps:
            return Read(params=over_tasks(one, data, backend=BACKEND), support=data)
        return Read(params=P.expand(self._params, len(data.y)), support=data)

    @torch.no_grad()
    def predict(self, state: Read, x: Tensor) -> Tensor:
        if state.support is None:
            return x.new_zeros(*x.shape[:2], self._num_outputs)

        def one(params: Params, support: Examples, questions: Tensor) -> Tensor:
            return P.call(self._network, params, support, questions)

        return over_tasks(one, state.params, state.support, x, backend=BACKEND)
