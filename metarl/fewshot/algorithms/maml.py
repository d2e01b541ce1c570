"""Gradient-based few-shot learners: MAML, FOMAML, iMAML, ANIL and Meta-SGD are one algorithm with
another rule or gradient mode.

Sources: Finn et al. 2017 (arXiv:1703.03400); Raghu et al. 2020 (arXiv:1909.09157) for ANIL; Li et
al. 2017 (arXiv:1707.09835) for Meta-SGD; Rajeswaran et al. 2019 (arXiv:1909.04630) for iMAML.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core.adapt import adapt, grad_over_tasks
from metarl.core.checks import check_counts, check_positive
from metarl.core.gradients import Implicit, Mode, check_mode
from metarl.core.low_rank import adapt_low_rank, low_rank_pays
from metarl.core.rules import Sgd, named_rule
from metarl.fewshot.algorithms.shared import Meta, Setting, meta_descend
from metarl.fewshot.gradient_adapter import (
    GradientAdapter,
    SupportLoss,
    answers,
    best_backend,
    has_batch_norm,
)
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Examples, FewShotLearner, Needs
from metarl.nn.features import WithHead
from metarl.types import InnerRule, Metrics, Params


class Maml(FewShotLearner):
    """One iteration: draw N tasks, take K inner steps on each one's support set, and an Adam step
    on

        1/N Σᵢ ℓ(φᵢ(θ); queryᵢ),    φᵢ = K times φ ← rule(φ, ∇ℓ(φ; supportᵢ)) from θ

    Args: see configs/learner/maml.yaml, which also says where each number comes from.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        num_inner_steps: int,
        num_test_steps: int,
        inner_rule: str | InnerRule,
        inner_lr: float,
        adapt_only: Sequence[str] | None,
        gradient_mode: Mode,
        outer_lr: float,
        max_grad_norm: float | None,
        transductive: bool,
        compile: bool,
    ) -> None:
        check_counts(
            {
                "meta_batch_size": meta_batch_size,
                "num_inner_steps": num_inner_steps,
                "num_test_steps": num_test_steps,
            }
        )
        check_positive({"inner_lr": inner_lr})
        source, size = setting.source, setting.size
        self._setting = setting
        self._num_tasks = meta_batch_size
        num_outputs = source.spec.num_outputs(size.ways)
        self._network = network = WithHead(setting.embed, num_outputs, setting.streams.init).to(
            setting.device
        )
        self._num_inner_steps = num_inner_steps
        self._num_test_steps = num_test_steps
        self._rule = named_rule(
            inner_rule, inner_lr, num_steps=num_inner_steps, adapt_only=adapt_only
        )
        check_mode(gradient_mode, self._rule)
        self._mode = gradient_mode
        self._transductive = transductive or not has_batch_norm(network)
        self._objective = OBJECTIVES[source.spec.kind]
        self._inner_loss = SupportLoss(network, self._objective)
        params = P.of(network)
        backend = best_backend(network)
        pays = (
            backend == "vmap"
            and not compile
            and low_rank_pays(params, size.ways * size.shots * num_inner_steps)
        )
        self._low_rank_rule = _plain(self._rule, gradient_mode) if pays else None
        self._backend = backend if self._low_rank_rule is None else "joint"
        self._differentiated = torch.compile(self.meta_gradient) if compile else self.meta_gradient
        self._meta = Meta(
            {"network": params, "rule": self._rule.init(params)},
            lr=outer_lr,
            max_norm=max_grad_norm,
        )

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(
            self._network,
            self._meta.groups["network"],
            self._rule,
            self._meta.groups["rule"],
            self._objective,
            num_updates=self._num_test_steps,
            transductive=self._transductive,
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
        return meta_descend(self._meta, self._differentiated, self._objective, episodes)

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
        theta, steps = learned["network"], (support,) * self._num_inner_steps
        reference = None if self._transductive else support.x
        if self._low_rank_rule is not None:
            moved = adapt_low_rank(
                self._network, self._inner_loss, theta, steps, self._low_rank_rule, self._mode
            )
            with moved.installed(self._network):
                answer = answers(self._network, moved.params, query.x, reference)
        else:
            adapted = adapt(self._inner_loss, theta, steps, self._rule, learned["rule"], self._mode)
            answer = answers(self._network, adapted, query.x, reference)
        return self._objective.loss(answer, query.y), self._objective.measure(
            answer.detach(), query.y
        )

    def state_dict(self) -> dict[str, Any]:
        return self._meta.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._meta.load_state_dict(state)


def imaml(*, strength: float, damping: float, cg_iterations: int, **settings: Any) -> Maml:
    """MAML with the implicit gradient at the end of the inner steps, see `Implicit`.

    Args: see configs/learner/imaml.yaml; settings: of Maml.
    Raises: ValueError, naming it, for a number out of range.
    """
    return Maml(
        gradient_mode=Implicit(strength, damping=damping, cg_iterations=cg_iterations),
        inner_rule="sgd",
        adapt_only=None,
        compile=False,
        **settings,
    )


def _plain(rule: InnerRule, mode: Mode) -> Sgd | None:
    """The rule, if it takes plain gradient steps on all parameters and they may be adapted in low
    rank."""
    return rule if isinstance(rule, Sgd) and mode in ("through", "first_order") else None
