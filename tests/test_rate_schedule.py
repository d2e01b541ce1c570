"""The rate of an evaluation's later updates, which may be another than in training."""

import json

import pytest
from support.commands import call

from metarl.cli.commands import evaluate, train

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = [
    *(
        "env=point_navigation_2d",
        "env.horizon=6",
        "algo.meta_batch_size=3",
        "algo.episodes_per_task=2",
    ),
    *(
        "model.hidden_sizes=[4]",
        "iterations=1",
        "device=cpu",
        "evaluation.num_tasks=3",
        "evaluation.video=false",
    ),
]
TRIALS = [
    "env=bandit",
    "env.horizon=3",
    "algo=rl2_ppo",
    "algo.meta_batch_size=2",
    "algo.num_minibatches=1",
    *TINY[5:],
]


def episodes(report: dict, update: int) -> list[list[float]]:
    """The returns of every episode after so many updates."""
    return [task["episodes"][update] for task in report["tasks"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of one inner step, where a decay of the training's own acts in the evaluation alone."""
    folder, one_step = (
        tmp_path_factory.mktemp("runs"),
        ("model=mlp", "algo.inner_rule=sgd", "algo.num_inner_steps=1"),
    )
    schedules = {"plain": ["algo.inner_lr_decay=1"], "trained": ["algo.inner_lr_decay=0.5"]}
    schedules["asked"] = [*schedules["plain"], "evaluation.inner_lr_decay=0.5"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, words in schedules.items():
            assert (
                call(monkeypatch, train, *TINY, *one_step, *words, f"run_dir={folder / name}") == 0
            )
    return {name: folder / name for name in schedules}


def test_a_decay_of_the_evaluation_is_that_of_a_learner_that_was_given_it(
    runs, monkeypatch, tmp_path
):
    plain, trained, asked = (
        json.loads((folder / "evaluation.json").read_text()) for folder in runs.values()
    )
    assert (
        asked["returns"] == trained["returns"]
        and asked["random_initialisation"] == trained["random_initialisation"]
    )
    assert asked["inner_lr_decay"] == 0.5 and "inner_lr_decay" not in plain
    for update in (0, 1):
        assert episodes(asked, update) == episodes(plain, update)
    assert episodes(asked, 2) != episodes(plain, 2)
    words = [
        f"checkpoint={runs['plain']}",
        "num_tasks=3",
        "inner_lr_decay=0.5",
        f"output={tmp_path / 'late.json'}",
    ]
    assert call(monkeypatch, evaluate, *words, "device=cpu") == 0
    assert json.loads((tmp_path / "late.json").read_text())["returns"] == asked["returns"]


def test_a_longer_evaluation_counts_the_episodes_that_it_is_given(runs, monkeypatch, tmp_path):
    words = [
        f"checkpoint={runs['plain']}",
        "num_tasks=2",
        "num_updates=1",
        "episodes_per_task=5",
        "device=cpu",
    ]
    assert call(monkeypatch, evaluate, *words, f"output={tmp_path / 'long.json'}") == 0
    report = json.loads((tmp_path / "long.json").read_text())
    assert report["env_steps"] == 2 * 2 * 5 * 6  # 2 tasks, before and after, 5 episodes of 6 steps


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [*TINY, "evaluation.inner_lr_decay=0"],
            "evaluation.inner_lr_decay=0: expected a number above 0 to 1 or null",
        ),
        (
            [*TINY, "evaluation.inner_lr_decay=1.5"],
            "evaluation.inner_lr_decay=1.5: expected a number above 0 to 1",
        ),
        ([*TINY, "algo.inner_lr_decay=0"], "algo.inner_lr_decay=0: expected a number above 0 to 1"),
        (
            [*TINY, "algo.num_inner_steps=0"],
            "algo.num_inner_steps=0: expected an integer, 1 or more",
        ),
        (
            [*TINY, "algo.inner_rule=learned_rates", "evaluation.inner_lr_decay=0.5"],
            "inner_lr_decay=0.5: algo.inner_rule=learned_rates learns its rates",
        ),
        (
            [*TRIALS, "evaluation.inner_lr_decay=0.5"],
            "inner_lr_decay=0.5: rl2_ppo has no update with a rate",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_there_is_a_run(
    words, message, monkeypatch, capsys, tmp_path
):
    assert call(monkeypatch, train, *words, f"run_dir={tmp_path / 'run'}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("decay", ["0", "-0.5", "1.01", "nan"])
def test_an_evaluation_refuses_a_decay_outside_its_range(decay, runs, monkeypatch, capsys):
    assert (
        call(monkeypatch, evaluate, f"checkpoint={runs['plain']}", f"inner_lr_decay={decay}") == 2
    )
    assert f"inner_lr_decay={decay}: expected a number above 0 to 1" in capsys.readouterr().err
