"""The tables of several learners: every number is there, under words that fit it."""

from pathlib import Path

from support.run_folders import run_folder

from metarl.report.finished import finished_runs
from metarl.report.learners import learners, side_by_side
from metarl.report.learners_table import tables
from metarl.report.markdown import table

SCALE = {"zero": [-10.0, -20.0], "one": [0.0, 0.0]}


def shown(folder: Path) -> list[list[str]]:
    """The cells of each line."""
    text = tables(side_by_side(learners(finished_runs([folder])[0])))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def row(lines: list[list[str]], *begin: str) -> list[str]:
    (found,) = (line for line in lines if tuple(line[: len(begin)]) == begin)
    return found


def test_each_learner_has_a_row_each_seed_another_and_what_stands_beside_them(
    tmp_path: Path,
) -> None:
    bounds = [{"num_speeds": 1, "mean": -12.0, "mean_with_allowance": -48.5}]
    speeds = {"allowance": 36.5, "allowance_is": "run-up", "bounds": bounds}
    for seed in (0, 1, 2):
        place = tmp_path / f"maml{seed}"
        run_folder(
            place, [[-8.0, -4.0], [-12.0, -6.0]], seed=seed, scale=SCALE, fixed_speeds=speeds
        )
    run_folder(tmp_path / "rl2", [[-2.0], [-2.0]], algo="rl2_ppo", unit="episode", scale=SCALE)
    lines = shown(tmp_path)
    assert lines[0][0].startswith(
        "half_cheetah_vel, 2 held-out tasks: mean return, with 95 % intervals over 3 seeds"
    )
    head = [
        "learner",
        "seeds",
        "steps",
        "before adaptation, or episode 1",
        "after 1 update",
    ]
    assert row(lines, "learner", "seeds") == [
        *head,
        "score in the end",
        "tasks made worse by each update",
    ]
    maml = row(lines, "maml_ppo", "0–2")
    assert maml[2] == "2M" and maml[3].startswith("-10.0 [") and maml[4].startswith("-5.0 [")
    assert maml[5].startswith("0.67 [") and maml[6].startswith("0 % [0, ")
    rl2 = row(lines, "rl2_ppo", "0", "2M")
    assert (
        rl2[3].startswith("-2.0 [")
        and rl2[4] == ""
        and rl2[5].startswith("0.87 [")
        and rl2[6] == ""
    )
    assert row(lines, "maml_ppo", "1") == ["maml_ppo", "1", "-10.0, -5.0"]
    assert row(lines, "standing still")[1] == "-350.0"
    assert row(lines, "random initialisation, adapted as maml_ppo")[1] == "-300.0, -300.0"
    assert row(lines, "the best fixed speed, at no cost; less 36.5 (run-up)")[1] == "-12.0; -48.5"


def test_the_caption_says_how_many_episodes_an_update_sees(tmp_path: Path) -> None:
    run_folder(tmp_path / "maml", [[-8.0, -4.0]])
    run_folder(tmp_path / "rl2", [[-2.0, -1.0]], algo="rl2_ppo", unit="episode")
    (alone,) = (line[0] for line in shown(tmp_path) if "with 95 %" in line[0])
    unlike = " Of rl2_ppo each column is one episode further: unlike amounts of data."
    assert alone.endswith(f"An update sees 2 episodes of its task.{unlike}")
    found = side_by_side(learners(finished_runs([tmp_path])[0]))
    maml, rl2 = found["learners"]
    assert rl2["episodes_per_update"] is None
    found["learners"] = [maml, {**maml, "name": "promp", "episodes_per_update": 1}, rl2]
    caption, *_ = tables(found).splitlines()
    told = "An update sees 2 episodes (maml_ppo) or 1 episode (promp) of its task."
    assert caption.endswith(told + unlike)
    assert "An update sees" not in tables({**found, "learners": [rl2]})


def test_one_seed_has_no_table_of_seeds_and_success_is_told(tmp_path: Path) -> None:
    run_folder(tmp_path, [[-8.0, -4.0]], success=[0.25, 1.0], split="none")
    lines = shown(tmp_path)
    assert "1 task, the same as in training: mean return" in lines[0][0]
    assert row(lines, "learner")[-2:] == ["solved", "tasks made worse by each update"]
    assert "25 %, 100 %" in row(lines, "maml_ppo", "0")
    assert not [line for line in lines if line[:2] == ["learner", "seed"]]


def test_solved_episodes_are_told_with_intervals_and_beside_the_learners(tmp_path: Path) -> None:
    run_folder(
        *(tmp_path, [[-8.0, -4.0]] * 4),
        success=[0.25, 1.0],
        solved=[[[False, False], [True, True]]] * 4,
        references={"scripted": {"mean": 3.0, "success_rate": 1.0}},
    )
    lines = shown(tmp_path)
    # Four tasks, see tests/rl/evaluation/test_proportions.py
    assert "0 % [0, 60], 100 % [40, 100]" in row(lines, "maml_ppo", "0")
    assert row(lines, "scripted")[-1] == "3.00; solved 100 %"
    assert row(lines, "random initialisation, adapted as maml_ppo")[-1].endswith("25 %, 100 %")
    assert row(lines, "standing still")[-1] == "-350.00"


def test_an_update_sees_as_many_episodes_as_were_played_not_as_many_as_are_told(
    tmp_path: Path,
) -> None:
    """Evaluations of earlier versions tell the mean of a task's episodes alone."""
    run_folder(tmp_path, [[-8.0, -4.0]], episodes_per_task=10)
    assert "An update sees 10 episodes of its task." in shown(tmp_path)[0][0]


def test_steps_are_told_from_the_least_to_the_most(tmp_path: Path) -> None:
    for seed, steps in enumerate((3_000_000, 1_000_000, 2_000_000, 3_000_000)):
        run_folder(tmp_path / str(seed), [[-8.0]], seed=seed, trained_env_steps=steps)
    assert row(shown(tmp_path), "maml_ppo", "0–3")[2] == "1M to 3M"


def test_the_caption_says_who_was_played_otherwise_and_what_blew_up(tmp_path: Path) -> None:
    run_folder(tmp_path / "maml", [[-8.0, -4.0]], deterministic=True, diverged_episodes=3)
    run_folder(tmp_path / "rl2", [[-2.0]], algo="rl2_ppo", unit="episode", deterministic=False)
    caption = shown(tmp_path)[0][0]
    assert "Played with the policy's most likely actions, maml_ppo alone." in caption
    # One task, two episodes, before and after an update
    assert "3 of 4 episodes of maml_ppo broke off, because the physics blew up" in caption
    assert "of rl2_ppo ended" not in caption
    alone = shown(tmp_path / "maml")[0][0]
    assert "Played with the policy's most likely actions." in alone
    run_folder(tmp_path / "maml", [[-8.0, -4.0]], inner_lr_decay=0.5)
    assert "with 0.5 times the rate from the second update on." in shown(tmp_path / "maml")[0][0]


def test_small_returns_have_two_decimals(tmp_path: Path) -> None:
    run_folder(tmp_path, [[0.42, 0.58]], stand_still={"mean": 0.07})
    lines = shown(tmp_path)
    assert row(lines, "maml_ppo", "0")[3].startswith("0.42 [")
    assert row(lines, "standing still")[1] == "0.07"


def test_a_sign_that_parts_cells_is_no_end_of_one() -> None:
    assert table(("a|b", "c"), [("1", "2")]).splitlines()[0] == r"| a\|b | c |"


def test_the_caption_names_learners_whose_seeds_trained_for_other_lengths(tmp_path: Path) -> None:
    for seed, (steps, alike) in enumerate(((30_000_000, 9_400_000), (1_000_000, 10_000_000))):
        run_folder(tmp_path / f"a{seed}", [[-8.0]], seed=seed, trained_env_steps=steps)
        place = tmp_path / f"b{seed}"
        run_folder(place, [[-8.0]], algo="rl2_ppo", seed=seed, trained_env_steps=alike)
    caption = shown(tmp_path)[0][0]
    assert "The seeds of maml_ppo trained for 1M to 30M steps." in caption
    assert "seeds of rl2_ppo" not in caption
