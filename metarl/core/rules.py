"""Inner rules: how parameters and their gradients become the updated parameters.

All are elementwise, so that they take one task's leaves [...] and stacked ones [N, ...] alike; the
rules' own learned parameters aren't stacked and broadcast over tasks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from metarl.choices import check_choice
from metarl.core.checks import check_counts, check_not_negative
from metarl.core.own_rule import OwnRule
from metarl.errors import SettingError
from metarl.types import InnerRule, Params


@dataclass(frozen=True)
class Sgd:
    """φ ← φ − lr · g (MAML; Finn et al. 2017, arXiv:1703.03400). `later_lr`, if given, is the rate
    after the first step."""

    lr: float
    later_lr: float | None = None

    def __post_init__(self) -> None:
        check_not_negative({"lr": self.lr, "later_lr": self.later_lr})

    def init(self, params: Params) -> Params:
        return {}

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        lr = self.rate(step)
        return {name: leaf - lr * grads[name] for name, leaf in params.items()}

    def rate(self, step: int) -> float:
        """The rate of inner step number `step`."""
        return self.lr if step == 0 or self.later_lr is None else self.later_lr


@dataclass(frozen=True)
class LearnedRates:
    """φ ← φ − α ∘ g with one learned rate per entry (Meta-SGD; Li et al. 2017, arXiv:1707.09835),
    all `lr` at first."""

    lr: float

    def __post_init__(self) -> None:
        check_not_negative({"lr": self.lr})

    def init(self, params: Params) -> Params:
        return {name: torch.full_like(leaf, self.lr) for name, leaf in params.items()}

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        return {name: leaf - rule_params[name] * grads[name] for name, leaf in params.items()}


@dataclass(frozen=True)
class PerStepRates:
    """φ ← φ − α_{k, tensor} g: a learned rate per step and tensor (MAML++; Antoniou et al. 2019,
    arXiv:1810.09502).

    At first they are lr · decayᵏ. Steps past the `num_steps` trained ones keep the last rate.
    """

    lr: float
    num_steps: int
    decay: float = 1.0

    def __post_init__(self) -> None:
        check_not_negative({"lr": self.lr})
        check_counts({"num_steps": self.num_steps})

    def init(self, params: Params) -> Params:
        rates = [self.lr * self.decay**k for k in range(self.num_steps)]
        return {
            name: torch.stack([leaf.new_full((), rate) for rate in rates])
            for name, leaf in params.items()
        }

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        k = min(step, self.num_steps - 1)
        return {name: leaf - rule_params[name][k] * grads[name] for name, leaf in params.items()}


@dataclass(frozen=True)
class Only:
    """Applies `rule` to the parameters under one of `prefixes` and leaves the others: the last
    layer alone is ANIL (Raghu et al. 2020, arXiv:1909.09157), a context vector alone is CAVIA
    (Zintgraf et al. 2019, arXiv:1810.03642).

    A prefix is a whole name or a module path: `layers.1` covers layers.1.weight but not
    layers.10.weight.

    Raises: ValueError for a prefix that covers no parameter, with the names there are.
    """

    rule: InnerRule
    prefixes: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.prefixes, str) or not self.prefixes:
            raise SettingError(
                f"prefixes must be a non-empty sequence of names, got {self.prefixes!r}"
            )
        object.__setattr__(self, "prefixes", tuple(self.prefixes))

    def init(self, params: Params) -> Params:
        return self.rule.init(self.chosen(params))

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        chosen = self.chosen(params)
        updated = self.rule(chosen, {name: grads[name] for name in chosen}, rule_params, step)
        return {name: updated.get(name, leaf) for name, leaf in params.items()}

    def chosen(self, params: Params) -> Params:
        """Returns the parameters that the rule is applied to."""
        for prefix in self.prefixes:
            if not any(_is_under(name, prefix) for name in params):
                raise SettingError(
                    f"no parameter is named {prefix!r} or lies under it; there are "
                    f"{', '.join(params)}"
                )
        return {
            name: leaf
            for name, leaf in params.items()
            if any(_is_under(name, p) for p in self.prefixes)
        }


def moved_by(rule: InnerRule, params: Params) -> list[str]:
    """The names of the parameters that a step of `rule` can change."""
    return list(rule.chosen(params) if isinstance(rule, Only) else params)


RULES = ("sgd", "learned_rates", "per_step_rates")


def named_rule(
    rule: str | InnerRule,
    lr: float,
    *,
    decay: float = 1.0,
    num_steps: int = 1,
    adapt_only: Sequence[str] | None = None,
) -> InnerRule:
    """The rule that an algorithm's settings name, or one of a user's own.

    Args:
      rule: one of `RULES`; or a rule, which has its own numbers.
      decay: factor on the rate of `sgd` from the second step on; of `per_step_rates` from each step
        to the next, at first.
      num_steps: how many rates `per_step_rates` has.
      adapt_only: the prefixes of `Only`; None: all parameters.
    Raises: SettingError for an unknown name, what is no rule, or a decay where rates are learned.
    """
    if isinstance(rule, str):
        check_choice("inner_rule", rule, RULES)
    elif not callable(rule) or not callable(getattr(rule, "init", None)):
        missing = "init" if callable(rule) else "__call__"
        raise SettingError(
            f"inner_rule {type(rule).__name__} has no {missing}: expected {', '.join(RULES)}, or an "
            "InnerRule (metarl/types.py), which has init and is called"
        )
    if rule == "learned_rates" and decay != 1:
        raise SettingError(
            f"inner_lr_decay {decay}: learned_rates has one rate for all steps; expected 1, or "
            "another inner_rule"
        )
    rules: dict[str, Callable[[], InnerRule]] = {
        "sgd": lambda: Sgd(lr, lr * decay),
        "learned_rates": lambda: LearnedRates(lr),
        "per_step_rates": lambda: PerStepRates(lr, num_steps, decay),
    }
    found = rules[rule]() if isinstance(rule, str) else OwnRule(rule)
    return found if adapt_only is None else Only(found, tuple(adapt_only))


def _is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.removesuffix(".") + ".")
