"""The checks for learners from outside: who keeps to the contract passes, and each way not to is
told by name."""

import sys
from pathlib import Path
from typing import Any

import pytest

from metarl.errors import UserError
from metarl.testing import check_fewshot_learner, check_learner

SMALL: dict[str, Any] = {
    "env": {"horizon": 5},
    "evaluation": {"num_tasks": 2},
    "model": {"hidden_sizes": [4]},
    "algo": {"meta_batch_size": 2, "episodes_per_task": 2, "num_inner_steps": 1},
}
CLASS = """
import itertools
import torch
from metarl.rl.algorithms.reptile import Reptile

COUNT = itertools.count()

class Own(Reptile):
    def moved(self, by):
        with torch.no_grad():
            for leaf in self.params.theta.values():
                leaf += by

"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a learner whose class has these lines more than Reptile; returns words for it."""

    def written(lines: str) -> dict[str, Any]:
        body = "".join(f"    {line}\n" for line in lines.strip().split("\n"))
        (tmp_path / "own_for_testing.py").write_text(CLASS + body)
        (tmp_path / "algo").mkdir(exist_ok=True)
        (tmp_path / "algo/own.yaml").write_text(
            "defaults: [reptile]\nname: own\n_target_: own_for_testing.Own\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "own_for_testing", raising=False)
        return SMALL | {"config_dir": tmp_path}

    return written


def check(settings: dict[str, Any], algo: str = "own") -> None:
    check_learner("point_navigation_2d", algo, iterations=2, **settings)


def test_who_keeps_to_the_contract_passes(own: Any) -> None:
    check(own("pass"))
    check(SMALL, "maml_ppo")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            """
def iteration(self):
    row = yield from super().iteration()
    self.moved(1e-3 * next(COUNT))  # as a clock, or another generator
    return row
""",
            "trained again with the same seed, row 2 of its metrics has return_before .* a random "
            "number comes from elsewhere",
        ),
        (
            """
count = 0

def iteration(self):
    row = yield from super().iteration()
    self.count += 1
    self.moved(0.1 * self.count)
    return row
""",
            "resumed after 1 iteration, .*`state_dict` leaves something out",
        ),
    ],
)
def test_what_differs_is_told(own: Any, lines: str, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check(own(lines))


def test_few_shot_learners_are_checked_likewise() -> None:
    small = {"evaluation": {"num_tasks": 2}, "learner": {"meta_batch_size": 2}}
    check_fewshot_learner("sinusoid", "maml", iterations=2, **small)


def test_mistakes_of_the_words_stay_errors() -> None:
    with pytest.raises(ValueError, match="iterations=1; expected 2 or more"):
        check_learner("point_navigation_2d", "maml_ppo", iterations=1)
    with pytest.raises(UserError, match="maml_pp"):
        check_learner("point_navigation_2d", "maml_pp")
