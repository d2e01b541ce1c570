"""Where tasks stand on an axis, and bands of profiles that fall as the profiles do."""

from pathlib import Path

import pytest
from support.run_folders import run_folder

from metarl.report.finished import Finished, finished_runs
from metarl.report.learners import learners
from metarl.report.page.measures import profiles, task_axis, thresholds


def run_of(
    folder: Path, words: list[str], numbers: list[dict[str, object]] | None = None
) -> Finished:
    tasks = [
        {"task": text, "returns": [1.0], "episodes": [[1.0]], **({"numbers": n} if n else {})}
        for text, n in zip(words, numbers or [{}] * len(words), strict=True)
    ]
    run_folder(folder, [[1.0]] * len(words), tasks=tasks)
    return finished_runs([folder])[0][0]


@pytest.mark.parametrize(
    ("words", "numbers", "label", "values", "names"),
    [
        (["target 1.50 m/s", "target -2 m/s"], None, "target m/s", [1.5, -2.0], None),
        (
            ["target 1.50 m/s", "target -2 m/s"],
            [{"target_velocity": 1.504}, {"target_velocity": -2.0}],
            *("target m/s", [1.504, -2.0], None),
        ),
        (["forwards", "backwards", "forwards"], None, "task", [0, 1, 0], ["forwards", "backwards"]),
        (
            ["goal (+0.12, +0.34) m", "goal (-0.12, +0.34) m"],
            None,
            *("task, in the order of the evaluation", [1, 2], None),
        ),
        (
            [f"goal {n} {n}" for n in range(9)],
            None,
            *("task, in the order of the evaluation", list(range(1, 10)), None),
        ),
    ],
)
def test_tasks_stand_by_what_makes_them(
    tmp_path: Path,
    words: list[str],
    numbers: list[dict[str, object]] | None,
    label: str,
    values: list[float],
    names: list[str] | None,
) -> None:
    found = task_axis(run_of(tmp_path, words, numbers))
    assert (found.label, found.values, found.names) == (label, values, names)


def test_profiles_and_their_bands_fall(tmp_path: Path) -> None:
    for seed in range(3):
        run_folder(tmp_path / str(seed), [[0.0, 5.0 + seed], [1.0, 9.0 - 2 * seed]], seed=seed)
    (learner,) = learners(finished_runs([tmp_path])[0])
    at = thresholds([learner])
    assert (at[0], at[-1]) == (0.0, 9.0)
    found = profiles(learner, at)
    assert list(found) == [0, 1]
    # Of 5 9 | 6 7 | 7 5 four are above 5 and three above 6, none above 9.
    value = {round(t, 2): e["value"] for t, e in zip(at, found[1], strict=True)}
    assert (value[0.0], value[6.0], value[9.0]) == (1.0, 3 / 6, 0.0)
    for estimates in found.values():
        for end in ("value", "ci_low", "ci_high"):
            ends = [estimate[end] for estimate in estimates]
            assert ends == sorted(ends, reverse=True)
        assert all(e["ci_low"] <= e["value"] <= e["ci_high"] for e in estimates)
