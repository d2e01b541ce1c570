"""Facts about what is set in the process: in a process of its own where the setting lasts as long
as it does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
import mujoco, numpy as np
from envs.sim import process
from envs.mujoco.models import GymnasiumModel

model = GymnasiumModel(file="half_cheetah.xml").load()

def trajectory():
    data = mujoco.MjData(model)
    data.qvel[:] = np.linspace(-1, 1, model.nv)
    states = []
    for _ in range(300):
        data.ctrl[:] = np.sin(10 * data.time + np.arange(model.nu))
        mujoco.mj_step(model, data)
        states.append(np.concatenate([data.qpos, data.qvel]))
    return np.stack(states)

print("timer before:", process.mujoco_timer().value is not None)
before = trajectory()
process.tune_process()
process.tune_process()
print("timer after:", process.mujoco_timer().value is not None)
print("same trajectory:", np.array_equal(before, trajectory()))
"""


def output(folder: Path, **environment: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(folder.iterdir()) == []  # no MUJOCO_LOG.TXT
    return done.stdout


def test_timer_callback_is_cleared_and_trajectories_stay_the_same(tmp_path: Path) -> None:
    text = output(tmp_path)
    assert "timer before: True\n" in text
    assert "timer after: False\n" in text
    assert "same trajectory: True\n" in text
    assert text.count("tuned the process") == 1
    assert "METARL_TUNE_PROCESS=0" in text


def test_process_is_left_alone_when_asked_to(tmp_path: Path) -> None:
    text = output(tmp_path, METARL_TUNE_PROCESS="0")
    assert "timer after: True\n" in text
    assert "left as it is" in text


def test_a_word_that_says_neither_is_told(tmp_path: Path) -> None:
    text = output(tmp_path, METARL_TUNE_PROCESS="maybe")
    assert "METARL_TUNE_PROCESS=maybe: expected 0 or 1" in text
    assert "timer after: False\n" in text
