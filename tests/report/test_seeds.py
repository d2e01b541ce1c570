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


def test_what_does_not_learn_and_the_share_of_solved_episodes_stand_beside() -> None:
    """As means over the seeds."""

    def solved(seed: int) -> dict[str, Any]:
        more = {
            "returns": [{"success_rate": rate} for rate in (0.0, (0.4, 0.8)[seed])],
            "random_initialisation": [
                {"update": k, "mean": -8.0 - seed, "iqm": -7.0 - seed} for k in (0, 1)
            ],
            "stand_still": {"mean": -3.0, "iqm": -4.0 - 2 * seed},
        }
        return report(seed, [[0.0, 4.0], [1.0, 13.0]], **more)

    found = together([solved(0), solved(1)])
    assert [row["success_rate"] for row in found["returns"]] == pytest.approx([0.0, 0.6])
    assert found["random_initialisation"][1] == {"update": 1, "mean": -8.5, "iqm": -7.5}
    assert found["stand_still"] == {"mean": -3.0, "iqm": -5.0}
    shown = table(found)
    assert "success 60 %" in shown and "random init, 1 upd." in shown and "standing still" in shown
    assert "1 episode of each" in table(together([report(seed, [[1.0]]) for seed in (0, 1)]))


def test_the_gain_of_all_updates_is_from_before_the_first_to_after_the_last() -> None:
    reports = [report(seed, [[0.0], [4.0], [5.0 + seed]]) for seed in (0, 1)]
    gain = together(reports)["adaptation_gain_of_all_updates"]
    assert gain["mean"] == pytest.approx(5.5)


def test_kinds_of_tasks_are_said_apart() -> None:
    """Two tasks on ice and one on grass, two seeds."""

    def of_kinds(seed: int) -> dict[str, Any]:
        found = report(seed, [[1.0]], [[3.0 + seed]], [[10.0]])
        kinds, solved = ("ice", "ice", "grass"), (True, False, True)
        for task, kind, is_solved in zip(found["tasks"], kinds, solved, strict=True):
            task |= {"kind": kind, "solved": [[is_solved]]}
        return found

    found = together([of_kinds(0), of_kinds(1)])
    ((ice,), (grass,)) = (found["returns_by_task"][kind] for kind in ("ice", "grass"))
    assert (ice["mean"], ice["success_rate"]) == (pytest.approx(2.25), 0.5)
    assert (grass["mean"], grass["success_rate"]) == (10.0, 1.0)
    lines = table(found).splitlines()
    shown = {
        kind: next(line for line in lines if f"{kind}, 0 upd." in line) for kind in ("ice", "grass")
    }
    assert "2.25" in shown["ice"] and "success 50 %" in shown["ice"]
    # One number twice has no interval.
    assert "[" not in shown["grass"].partition("success")[0]
