"""Loads MuJoCo models without a word to the user."""

from pathlib import Path

import gymnasium
import mujoco

from envs.process import quiet_mujoco


def gymnasium_model(file: str) -> mujoco.MjModel:
    """A model that Gymnasium's MuJoCo environments use, for instance half_cheetah.xml, unchanged."""
    quiet_mujoco()  # half_cheetah.xml's settotalmass is deprecated, and MuJoCo would say so in the terminal and in a file
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file
    return mujoco.MjModel.from_xml_path(str(path))
