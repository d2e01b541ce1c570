"""What the evaluations of several seeds say together, with numbers by hand."""

from typing import Any

import pytest

from metarl.errors import UserError
from metarl.report.seeds import table, together


def report(seed: int, *tasks: list[list[float]], **more: Any) -> dict[str, Any]:
    """An evaluation of one seed. Args: tasks: of each its episodes before and after an update."""
    return {
        "env": "half_cheetah_vel",
        "algo": "maml_ppo",
        "split": "fixed",
        "unit": "update",
        "num_tasks": len(tasks),
        "episodes_per_task": len(tasks[0][0]),
        "seed": seed,
        "tasks": [{"episodes": episodes} for episodes in tasks],
        **more,
    }


def test_gains_are_those_of_tasks_in_whatever_order_episodes_were_played() -> None:
    """Two seeds of one task: from 2 to 7, and from 3 to 6. The gains are 5 and 3."""
    first, second = report(0, [[0.0, 4.0], [1.0, 13.0]]), report(1, [[1.0, 5.0], [2.0, 10.0]])
    turned = report(1, [[5.0, 1.0], [2.0, 10.0]])
    gains = [together([first, of])["adaptation_gain_of_all_updates"] for of in (second, turned)]
    assert gains[0] == gains[1]
    assert gains[0]["mean"] == gains[0]["iqm"] == pytest.approx(4.0)


def test_it_says_whether_tasks_are_held_out_and_what_blew_up() -> None:
    episodes = [[0.0, 4.0], [1.0, 13.0]]
    found = together([report(seed, episodes, diverged_episodes=seed) for seed in (1, 2)])
    assert "1 held-out task; 2 episodes of each" in table(found)
    assert "3 episodes broke off, because the physics blew up or" in table(found)
    found = together([report(seed, episodes, split="none") for seed in (1, 2)])
    assert "1 task, the same as in training; 2 episodes of each" in table(found)
    assert "broke off" not in table(found)


def test_seeds_that_were_evaluated_or_trained_otherwise_are_told() -> None:
    episodes = [[0.0, 4.0], [1.0, 13.0]]
    found = together([report(seed, episodes, iteration=seed) for seed in (2, 3)])
    assert "iteration" not in found
    assert "trained for different numbers of iterations" in table(found)
    alike = together([report(seed, episodes, iteration=3) for seed in (2, 3)])
    assert alike["iteration"] == 3 and "different numbers" not in table(alike)
    with pytest.raises(UserError, match=r"seed 1 was .* num_tasks=2, seed 0 with 1; expected"):
        together([report(0, episodes), report(1, episodes, episodes)])
