"""Names from before, in checkpoints and in configs of one's own, still lead to what they named."""

import re

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

import envs
from metarl.cli import build, configs
from metarl.cli.kinds import Target
from metarl.cli.moved import MOVED, present_name
from metarl.cli.strangers import named
from metarl.run.seeding import Generators


@pytest.mark.parametrize("before", MOVED)
def test_what_moved_has_its_name_where_it_is_now(before: str) -> None:
    found = get_object(present_name(before))
    assert f"{found.__module__}.{found.__name__}" == MOVED[before]
    assert before.rpartition(".")[2] == found.__name__


def test_other_names_and_values_stay_as_they_are() -> None:
    assert [
        present_name(value) for value in ("os.system", 1, None, ["metarl.rl.policies.mlp_policy"])
    ] == [
        "os.system",
        1,
        None,
        ["metarl.rl.policies.mlp_policy"],
    ]


def test_a_model_is_made_by_its_name_from_before() -> None:
    settings = {"hidden_sizes": [4], "activation": "tanh", "init_std": 0.5, "min_std": 1e-6}
    group = OmegaConf.create({"_target_": "metarl.rl.policies.mlp_policy", **settings})
    env = envs.make("point_navigation_2d", 1)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    made = build.maker(group)(**spaces, generator=Generators(0)("init"))
    assert sum(weights.numel() for weights in made.parameters()) == (2 * 4 + 4) + (4 * 2 + 2) + 2


@pytest.mark.parametrize("before", MOVED)
def test_the_command_line_takes_names_from_before(before: str) -> None:
    assert Target().fits(before) and not Target().fits(f"{before}s")


def test_our_configs_call_everything_where_it_is_now() -> None:
    called = {
        (path.name, name)
        for path in configs.CONFIGS.rglob("*.yaml")
        for name in re.findall(
            r"^ *_target_: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert len(called) > 20
    for where, name in called:
        assert name not in MOVED and callable(get_object(name)), where


def test_a_file_that_names_what_moved_calls_the_present_one() -> None:
    before = "metarl.rl.memory_model.MemoryModel"
    assert named({"model": {"_target_": before}}) == {"model._target_": MOVED[before]}
