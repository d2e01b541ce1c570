"""Loads MuJoCo models without a word to the user."""

from pathlib import Path

import gymnasium
import mujoco

from envs.process import quiet_mujoco


def gymnasium_model(file: str) -> mujoco.MjModel:
    """A model that Gymnasium's MuJoCo environments use, for instance half_cheetah.xml, unchanged."""
    return mujoco.MjModel.from_xml_path(gymnasium_path(file))


def gymnasium_path(file: str) -> str:
    """Of such a model; from here on MuJoCo is quiet."""
    quiet_mujoco()  # half_cheetah.xml's settotalmass is deprecated, and MuJoCo would say so in the terminal and in a file
    return str(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file)


def own_model(file: str) -> mujoco.MjModel:
    """A model of ours, from the folder assets beside this file."""
    quiet_mujoco()
    return mujoco.MjModel.from_xml_path(str(Path(__file__).parent / "assets" / file))
