"""Facts about configs/env: one file for each environment, with the numbers that Python has."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import envs

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
