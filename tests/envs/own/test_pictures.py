"""Pictures and videos of a user's own environment: with and without a camera, and without
MuJoCo."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import mujoco
import numpy as np
import pytest
import torch
from support.pictures import assert_alike

from envs.gym import SingleEnv
from envs.own import attribute, own_environment
from envs.own.pictures import _camera
from metarl.cli.commands import train
from metarl.noise import Noise

ROOT = Path(__file__).parents[3]


class Lamp(gymnasium.Env[np.ndarray, np.ndarray]):
    """Draws itself: as bright as it has made steps, in a picture twice as wide as high."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}
    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    power = 1.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.num_steps = 0
        return np.zeros(1), {}

    def step(self, action: np.ndarray) -> Any:
        self.num_steps += 1
        return (
            np.full(1, 0.1 * self.num_steps * self.power),
            self.power * float(action[0]),
            False,
            False,
            {},
        )

    def render(self) -> Any:
        return (
            np.full((20, 40, 3), 50 * self.num_steps, np.uint8)
            if self.render_mode == "rgb_array"
            else None
        )


class Broken(Lamp):
    def render(self) -> Any:
        raise ModuleNotFoundError("No module named 'pygame'")


class Grey(Lamp):
    def render(self) -> Any:
        return np.zeros((20, 40), np.uint8)


class Unseen(Lamp):
    metadata = {"render_modes": []}


lamp = partial(
    own_environment, Lamp, tasks={"power": attribute("power", between=(0.5, 2.0))}, horizon=4
)
robot = partial(
    own_environment,
    tasks={"load": attribute("model.opt.wind", between=(0.0, 1.0), index=0)},
    horizon=4,
)


def started(env: Any) -> Any:
    env.set_tasks(env.prior.test_tasks(env.num_worlds))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    return env


@pytest.mark.gl
@pytest.mark.parametrize(
    "name", ["InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Reacher-v5", "Pusher-v5"]
)
def test_a_model_without_a_camera_is_seen_as_gymnasium_shows_it(name: str) -> None:
    env = started(robot(name, num_worlds=1))
    picture = env.render(0, width=64, height=48)
    assert picture.shape == (48, 64, 3) and picture.std() > 5
    env.close()


def test_all_that_moves_is_seen_where_gymnasium_would_be_too_near() -> None:
    """From a distance of 2.42 m 45° show 1 m to either side."""
    model = mujoco.MjModel.from_xml_string(ARM)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert model.stat.extent < 2.42 * 0.5
    assert _camera(None, model, data).distance > 2.42 * 0.5


ARM = """<mujoco><statistic extent="0.6"/><worldbody><body><joint type="hinge"/>
<geom type="capsule" fromto="-0.5 0 0 0.5 0 0" size="0.02"/></body></worldbody></mujoco>"""


@pytest.mark.gl
def test_the_camera_that_the_environment_was_made_with_is_taken() -> None:
    default, chosen = (
        started(robot("Hopper-v5", num_worlds=1, settings=settings))
        for settings in ({}, {"camera_name": "track"})
    )
    assert_alike(default.render(0), chosen.render(0))
    ant = started(
        robot("Reacher-v5", num_worlds=1, settings={"default_camera_config": {"distance": 0.4}})
    )
    assert (ant.render(0) != started(robot("Reacher-v5", num_worlds=1)).render(0)).any()


def test_a_control_step_takes_as_long_as_in_the_environment() -> None:
    assert robot("Hopper-v5", num_worlds=1).control_step == pytest.approx(0.008)
    env = lamp(num_worlds=1)
    assert env.control_step is None and env.render_fps == 8
    assert SingleEnv(env).metadata["render_fps"] == 8


def test_what_is_not_mujoco_draws_itself_into_the_size_asked_for() -> None:
    env = started(lamp(num_worlds=2))
    env.step(torch.zeros(2, 1))
    picture = env.render(1, width=80, height=60)
    assert picture.shape == (60, 80, 3)
    # 40 x 20 doubled is 80 x 40, in the middle of 60 rows.
    assert (picture[10:50] == 50).all()
    assert (picture[:10] == 0).all() and (picture[50:] == 0).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Broken, "Broken can't be drawn: ModuleNotFoundError: No module named 'pygame'"),
        (
            Grey,
            r"Grey .*render_mode='rgb_array' its render\(\) gives uint8 \(20, 40\); expected uint8 \[height, width, 3\]",
        ),
        (
            Unseen,
            r"Unseen .*render_mode=None its render\(\) gives None; expected .*settings={'render_mode': 'rgb_array'}",
        ),
    ],
)
def test_what_cannot_be_drawn_says_why(source: Any, message: str) -> None:
    env = started(
        own_environment(
            source, 1, tasks={"power": attribute("power", between=(0.5, 2.0))}, horizon=4
        )
    )
    with pytest.raises(RuntimeError, match=message):
        env.render(0)


@pytest.mark.parametrize("settings", ["", "processes: true\n"])
def test_a_training_ends_with_a_video_of_it_also_from_processes(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/lamp.yaml").write_text(
        f"# Lamps.\nname: tests.envs.own.test_pictures:lamp\n{settings}"
    )
    small = "algo.meta_batch_size=2 algo.episodes_per_task=2 evaluation.num_tasks=2 evaluation.num_updates=1"
    words = f"--config-dir {tmp_path} env=lamp iterations=1 run_dir={tmp_path / 'run'} device=cpu {small}"
    monkeypatch.setattr(sys, "argv", ["train.py", *words.split()])
    monkeypatch.syspath_prepend(ROOT)
    train.main()
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "run" / "adaptation.mp4"))
    assert next(reader)["fps"] == 8
    assert sum(1 for _ in reader) == 4
