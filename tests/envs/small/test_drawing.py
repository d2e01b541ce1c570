"""What drawings of small worlds say about themselves, and in which scale they are."""

import numpy as np
import pytest
import torch

import envs
from envs.small.drawing import BLUE, GREEN, legend, write
from envs.small.point_navigation import Goal
from metarl.noise import Noise


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def has_text(picture: np.ndarray) -> bool:
    return bool((picture.max(-1) < 120).any())  # Of the colours no other is so dark.


def test_a_legend_fits_its_width_and_has_a_square_and_a_text_for_each_meaning() -> None:
    for width in (480, 320, 240):
        strip = legend(
            {"the first meaning": GREEN, "the second one": BLUE}, width=width, height=360
        )
        assert strip.shape[1] == width and 0 < len(strip) < 360 / 10
        assert {GREEN, BLUE} <= colours(strip) and has_text(strip)
        assert (strip[:, :2] == 255).all() and (strip[:, -2:] == 255).all()  # nothing is cut off


def test_where_letters_could_not_be_read_there_are_none() -> None:
    assert legend({"goal": GREEN}, width=160, height=120).shape == (0, 160, 3)
    assert legend({"a meaning that takes very many words": GREEN}, width=120, height=360).shape == (
        0,
        120,
        3,
    )
    blank = np.full((20, 60, 3), 255, np.uint8)
    assert (write(blank, {(30, 10): "7"}, size=8) == blank).all()
    assert has_text(write(blank, {(30, 10): "7"}, size=14))


@pytest.mark.parametrize("name", ["bandit", "tabular_mdp", "gridworld_5x5"])
@pytest.mark.parametrize(("width", "height"), [(480, 360), (320, 240)])
def test_drawings_explain_their_colours_in_the_size_asked_for(
    name: str, width: int, height: int
) -> None:
    env = envs.make(name, 1)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    picture = env.render(0, width=width, height=height)
    assert picture.shape == (height, width, 3)
    assert has_text(picture[: height // 12])


@pytest.mark.parametrize("name", ["bandit", "tabular_mdp", "gridworld_5x5"])
def test_pictures_may_be_very_small(name: str) -> None:
    env = envs.make(name, 1)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    assert env.render(0, width=64, height=16).shape == (16, 64, 3)


def test_the_goal_of_a_point_is_in_narrow_pictures_too() -> None:
    env = envs.make("point_navigation_2d", 1)
    env.set_tasks(Goal(goal=torch.tensor([[0.49, 0.0]])))
    env.reset(Noise(torch.Generator()).starts(env))
    assert GREEN in colours(env.render(0, width=120, height=320))


def test_all_pictures_of_points_have_one_scale_and_show_on_which_side_a_point_has_left() -> None:
    env = envs.make("point_navigation_2d", 3)
    env.set_tasks(Goal(goal=torch.tensor([[0.3, 0.45]]).expand(3, 2)))
    env.reset(Noise(torch.Generator()).starts(env))
    env._position[:] = torch.tensor([[0.0, -0.3], [5.0, 0.0], [-0.1, -2.0]])
    inside, right, below = (env.render(world, width=320, height=240) for world in range(3))
    for picture in (
        inside,
        right,
        below,
    ):  # 200 pixels for a metre; the goal is 12 pixels wide to each side
        assert (
            picture[120 - 90, 160 + 60].tolist()
            == [60, 170, 80]
            == picture[120 - 90, 160 + 70].tolist()
        )
        assert picture[120 - 90, 160 + 74].tolist() == [255, 255, 255]
    blue = [np.argwhere((picture == BLUE).all(-1)) for picture in (inside, right, below)]
    # A disc of 8 pixels, and the same as a ring where the point is outside.
    assert blue[0].mean(0) == pytest.approx([120 + 60 - 0.5, 160 - 0.5], abs=1)
    assert blue[1].max(0)[1] == 319 and blue[1].mean(0) == pytest.approx([119.5, 320 - 8.5], abs=1)
    assert blue[2].max(0)[0] == 239 and blue[2].mean(0) == pytest.approx(
        [240 - 8.5, 160 - 20.5], abs=1
    )
    assert len(blue[1]) < 0.8 * len(blue[0])
