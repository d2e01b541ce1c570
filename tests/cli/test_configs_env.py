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
META_WORLD = {"metaworld_ml1": "push-v3", "metaworld_ml10": None, "metaworld_ml45": None}
"""The files of its benchmarks, and the task that a file takes."""


def test_there_is_one_file_for_each_environment() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} == {*envs.ALL, *META_WORLD}


@pytest.mark.parametrize("name", envs.ALL)
def test_file_defines_the_same_problem_as_the_python_defaults(name: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    assert isinstance(config, dict)
    assert config.pop("name") == name
    assert config == envs.overridable(name)
    assert envs.make(name, 1, **config).spec.spec_hash == envs.make(name, 1).spec.spec_hash  # type: ignore[arg-type]


@pytest.mark.parametrize(("file", "task"), META_WORLD.items())
def test_file_of_meta_world_says_what_python_has(file: str, task: str | None) -> None:
    config = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{file}.yaml"))
    assert isinstance(config, dict)
    has = envs.overridable(config.pop("name"))
    benchmark = file.removeprefix("metaworld_").upper()
    assert config == {
        **{name: has[name] for name in config},
        "benchmark": benchmark,
        **({"task_name": task} if task else {}),
    }


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


MISSPELT = {
    "algo": {
        "taget": ("defaults: [maml_ppo, _self_]\n_taget_: my.Mine\n", "algo._taget_: there is no such key; did you mean _target_\\?"),
        "nothing": ("meta_batch_size: 2\n", "algo=nothing: its file has no `_target_`; expected the full name of what"),
        "passed_on": (
            "defaults: [maml_ppo, _self_]\nmata_batch_size: 2\n",
            "algo.mata_batch_size: .*MamlPPO takes no such setting; did you mean meta_batch_size\\?",
        ),
    },
    "model": {
        "below": ("defaults: [gru, _self_]\nmemory:\n  _taget_: my.Mine\n", "model.memory._taget_: there is no such key; did you mean _tar"),
        "setting": ("defaults: [gru, _self_]\nmemory:\n  hiden_size: 2\n", "model.memory.hiden_size: .*GRU takes no such setting; did you mean hidden_size\\?"),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in MISSPELT for name in MISSPELT[group]]
)
def test_what_a_file_of_the_users_misspells_is_told(group: str, name: str, tmp_path: Path) -> None:
    text, message = MISSPELT[group][name]
    (tmp_path / group).mkdir()
    (tmp_path / group / f"{name}.yaml").write_text(text)
    words = [f"{group}={name}", *(["algo=rl2_ppo"] if group == "model" else [])]
    with pytest.raises(UserError, match=message):
        check_overrides("train", words, [CONFIGS, tmp_path])


def test_a_file_of_the_users_may_have_what_its_own_code_takes(tmp_path: Path) -> None:
    (tmp_path / "algo").mkdir()
    text = "defaults: [maml_ppo, _self_]\n_target_: tests.cli.test_configs_env.own_learner\n"
    (tmp_path / "algo/mine.yaml").write_text(f"{text}speed: 2\nname: fast\n")
    check_overrides("train", ["algo=mine"], [CONFIGS, tmp_path])


def own_learner(*, setting: object, **more: object) -> None:
    """Takes whatever it is given."""


def test_who_names_a_learner_to_evaluate_is_told_how() -> None:
    with pytest.raises(UserError, match=r"algo._target_: .* \+algo._target_=my.Mine names it"):
        check_overrides("evaluate", ["checkpoint=x", "algo._target_=my.Mine"], [CONFIGS])
    there = "metarl.rl.algorithms.reptile.Reptile"
    check_overrides("evaluate", ["checkpoint=x", f"+algo._target_={there}"], [CONFIGS])
