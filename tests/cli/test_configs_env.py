"""Facts about configs/env: one file for each environment, with the numbers that Python has; and what
a user's own file, or a sweep over them, needs."""

from functools import partial
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import envs
from metarl.cli.configs import CONFIGS
from metarl.cli.overrides import check_overrides
from metarl.errors import UserError

FOLDER = Path(__file__).parents[2] / "configs" / "env"


def test_there_is_one_file_for_each_environment() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(envs.ALL)


@pytest.mark.parametrize("name", envs.ALL)
def test_file_defines_the_same_problem_as_the_python_defaults(name: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    assert isinstance(config, dict)
    assert config.pop("name") == name
    assert config == envs.overridable(name)
    assert envs.make(name, 1, **config).spec.spec_hash == envs.make(name, 1).spec.spec_hash  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["horizon: 5\n", ""])
def test_a_file_of_the_users_without_a_name_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/mine.yaml").write_text(text)
    with pytest.raises(UserError, match="env=mine: its file has no `name`; expected that of"):
        check_overrides("train", ["env=mine"], [CONFIGS, tmp_path])


def test_runs_of_a_sweep_need_a_folder_each() -> None:
    check = partial(check_overrides, "train", folders=[CONFIGS], sweep=True)
    with pytest.raises(UserError, match="run_dir=x: the runs of a sweep need a folder each"):
        check(["seed=0,1", "run_dir=x"])
    check(["seed=0,1", "run_dir=x/${seed}"])
    check(["run_dir=x,y"])
    check(["seed=0", "run_dir=x"])


@pytest.mark.parametrize(("command", "ours"), [("train", "run_dir"), ("evaluate", "output")])
def test_hydras_folder_of_a_run_is_refused_with_the_name_of_ours(command: str, ours: str) -> None:
    with pytest.raises(UserError, match=f"hydra.run.dir=x/y: .*; expected {ours}=x/y$"):
        check_overrides(command, ["hydra.run.dir=x/y"], [CONFIGS])
