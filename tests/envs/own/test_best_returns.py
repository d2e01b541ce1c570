"""Facts about the optimum that a user knows of an environment of their own."""

from functools import partial
from typing import Any

import pytest
import torch

from tests.support.own_lines import line

tasks_of = line.keywords["tasks"]


def made(best: Any) -> Any:
    return partial(line, best_return=best)(2)


def test_a_number_or_a_function_of_a_task_is_the_oracle() -> None:
    assert "known_returns" not in made(None)._known
    env = made(3.5)
    tasks = env.prior.test_tasks(2)
    assert env.references.known_returns(tasks, 4)["oracle"].tolist() == [3.5, 3.5]
    name = next(iter(tasks_of))
    env = made(lambda task: 2 * task[name])
    torch.testing.assert_close(
        env.references.known_returns(tasks, 4)["oracle"], 2 * getattr(tasks, name).float()
    )
    assert env.references.stand_still is not None
    assert env.spec.spec_hash == made(None).spec.spec_hash


@pytest.mark.parametrize(
    ("best", "message"),
    [
        (float("nan"), r"best_return of .* is nan for the task \{.*\}; expected a finite number"),
        (lambda task: "high", r"is 'high' for the task"),
        (lambda task: task["gaol"], r"fails for the task \{.*\}: KeyError: 'gaol'"),
    ],
)
def test_what_is_no_optimum_is_told_at_once(best: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(best)
