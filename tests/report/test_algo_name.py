"""An algorithm is called alike wherever results name it, also in files that don't say its name."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.run_folders import run_folder

from metarl import zoo
from metarl.cli import configs
from metarl.report.algo_name import algo_name
from metarl.report.finished import finished_runs
from metarl.report.learners import learners

RESULTS = Path(__file__).parents[2] / "results"
RL2 = {"_target_": "metarl.rl.algorithms.rl2_ppo.RL2PPO"}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"algo": RL2}, "rl2_ppo"),
        ({"algo": RL2 | {"name": "mine"}}, "mine"),
        ({"algo": RL2 | {"name": "mi\x1b]0;\nne"}}, "mi]0;ne"),
        ({"algo": RL2, "composed": {"choices": {"algo": "my_file"}}}, "my_file"),
        ({"algo": RL2, "model": {"memory": 3}, "composed": 4}, "rl2_ppo"),
    ],
)
def test_it_is_called_by_its_name_or_its_file_or_its_module(
    config: dict[str, Any], name: str
) -> None:
    assert algo_name(config) == name
    assert algo_name(configs.merged(config)) == name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["experiment=half_cheetah_vel_memoryless"], "rl2_ppo without memory"),
        (["algo=rl2_ppo", "model=memoryless"], "rl2_ppo without memory"),
        (["experiment=half_cheetah_vel_rl2"], "rl2_ppo"),
        (["algo=memoryless_ppo"], "memoryless_ppo"),
    ],
)
def test_an_agent_whose_memory_is_taken_away_is_called_so(words: list[str], name: str) -> None:
    config = configs.merged(configs.composed("train", words, [configs.CONFIGS])[0])
    assert algo_name(config) == name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("half_cheetah_vel_memoryless", "rl2_ppo without memory"),
        ("half_cheetah_vel_15m/oracle", "rl2_ppo without memory"),
        ("half_cheetah_vel_15m/rl2", "rl2_ppo"),
        ("half_cheetah_vel", "maml_ppo"),
    ],
)
def test_published_results_have_their_names(folder: str, name: str) -> None:
    config = yaml.safe_load((RESULTS / folder / "config.yaml").read_text())
    assert "name" not in config["algo"] and algo_name(config) == name


def test_files_of_the_zoo_have_their_names() -> None:
    names = {name: zoo.read(name, zoo.FOLDER)["config"] for name in zoo.names(zoo.FOLDER)}
    called = {name: algo_name(config) for name, config in names.items() if "algo" in config}
    assert called.pop("half_cheetah_vel/memoryless_ppo") == "rl2_ppo without memory"
    assert {name.partition("/")[2] for name in called} == set(called.values())


def test_a_seed_from_before_the_name_was_told_is_the_same_learner(tmp_path: Path) -> None:
    run_folder(tmp_path / "before", [[1.0, 2.0]], algo="promp")
    run_folder(tmp_path / "now", [[1.0, 2.0]], algo="promp", seed=1, settings={"name": "promp"})
    run_folder(tmp_path / "own", [[1.0, 2.0]], algo="promp", settings={"name": "mine"})
    found = learners(finished_runs([tmp_path])[0])
    assert [(learner.name, len(learner.runs)) for learner in found] == [("promp", 2), ("mine", 1)]
