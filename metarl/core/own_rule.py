"""An inner rule of a user's own, tried out before any training."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.described import described
from metarl.errors import SettingError
from metarl.types import InnerRule, Params


@dataclass(frozen=True)
class OwnRule:
    """Does what `rule` does. Where it is asked for its learned parameters, which comes before all
    else, it is tried on two tasks with random gradients."""

    rule: InnerRule

    def init(self, params: Params) -> Params:
        """Raises: SettingError naming what the rule does that no rule may."""
        name = type(self.rule).__name__
        found = self.rule.init(dict(params))
        if not isinstance(found, dict) or not all(map(_is_leaf, found.values())):
            raise SettingError(
                f"{name}.init returned {_odd_one(found)}; expected the rule's learned parameters, "
                "floating-point tensors by name, {} if there are none"
            )
        with torch.no_grad():
            self._try(name, params, found)
        return found

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        return self.rule(params, grads, rule_params, step)

    def _try(self, name: str, params: Params, rule_params: Params) -> None:
        generator = torch.Generator().manual_seed(0)
        noise = lambda leaf: torch.randn(leaf.shape, generator=generator).to(leaf)
        tasks = [
            {key: leaf + 0.1 * k * noise(leaf) for key, leaf in params.items()} for k in (0, 1)
        ]
        grads = [{key: noise(leaf) for key, leaf in params.items()} for _ in tasks]
        before = [{key: leaf.clone() for key, leaf in task.items()} for task in tasks]
        alone = [
            self.rule(task, grad, rule_params, 0) for task, grad in zip(tasks, grads, strict=True)
        ]
        again = self.rule(before[1], grads[1], rule_params, 0)
        for task, updated, as_before in zip(tasks, alone, before, strict=True):
            _check_like(name, updated, as_before)
            if changed := [key for key in task if not torch.equal(task[key], as_before[key])]:
                raise SettingError(
                    f"{name} changed {changed[0]} in place; expected new tensors, so that gradients "
                    "flow through the step"
                )
        _check_like(name, again, before[1])
        if other := [key for key in again if not torch.equal(again[key], alone[1][key])]:
            raise SettingError(
                f"{name} gives another {other[0]} when it is called again with the same arguments; "
                "expected a rule that keeps nothing between calls (what it learns are the parameters "
                "that init returns, and `step` says which step it is)"
            )
        stacked = self.rule(P.stack(tasks), P.stack(grads), rule_params, 0)
        _check_like(name, stacked, P.stack(before))
        for key, leaf in P.stack(alone).items():
            if not torch.allclose(stacked[key], leaf, rtol=1e-3, atol=1e-5):
                raise SettingError(
                    f"{name} isn't elementwise: with the parameters of two tasks stacked, [N, ...], "
                    f"it gives another {key} than with each task's alone; expected the same, for "
                    "tasks are adapted together"
                )


def _check_like(name: str, updated: Any, params: Params) -> None:
    """Raises: SettingError unless the rule returned every parameter as it was given, with other
    numbers."""
    if not isinstance(updated, dict):
        raise SettingError(
            f"{name} returned {described(updated)}; expected the updated parameters by name"
        )
    told = [f"no {key}" for key in params if key not in updated]
    told += [f"also {key}" for key in updated if key not in params]
    if told:
        raise SettingError(
            f"{name} returned {', '.join(told[:3])}; expected the parameters that it was given: "
            f"{', '.join(params)}"
        )
    for key, leaf in params.items():
        found = updated[key]
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            raise SettingError(
                f"{name} returned {described(found)} as {key}; expected {described(leaf)}, as it was "
                "given"
            )
        if not found.isfinite().all():
            raise SettingError(
                f"{name} returned NaN or infinity in {key} for a finite gradient; expected finite "
                "numbers"
            )


def _is_leaf(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _odd_one(found: Any) -> str:
    """What in a rule's parameters isn't a parameter, or what stands in their place."""
    if not isinstance(found, dict):
        return described(found)
    name, value = next((name, value) for name, value in found.items() if not _is_leaf(value))
    return f"{described(value)} as {name}"
