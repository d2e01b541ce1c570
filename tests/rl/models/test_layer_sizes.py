"""Every model names layers that can't be, in the same words."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
import torch
from omegaconf import OmegaConf

from metarl.cli import build
from metarl.cli.configs import CONFIGS, contents
from metarl.cli.strangers import cause

FILES = contents(CONFIGS)
MODELS = {
    name.removeprefix("model/").removesuffix(".yaml"): config["model"]
    for name, config in FILES.items()
    if name.startswith("model/") and "_target_" in config["model"]
}
GRU = {"_target_": "metarl.nn.recurrent.GRU", "_partial_": True, "hidden_size": 4}
MODELS["gru"] = MODELS.pop("_memory_heads") | {"memory": GRU}
MAP = FILES["model/belief_map.yaml"]["model"]["reward_decoder"] | {"_partial_": True}
MODELS["belief_map"] = MODELS["belief"] | {"reward_decoder": MAP}


def sizes(config: dict[str, Any], place: str = "") -> Iterator[str]:
    """Where the lists of layers are."""
    for key, value in config.items():
        if key.endswith("sizes"):
            yield f"{place}{key}"
        elif isinstance(value, dict):
            yield from sizes(value, f"{place}{key}.")


CASES = [(name, place) for name, config in MODELS.items() for place in sizes(config)]


def made(config: Any) -> torch.nn.Module:
    spaces = {
        "observation_space": gymnasium.spaces.Box(0, 1, (3,)),
        "action_space": gymnasium.spaces.Box(-1, 1, (2,)),
    }
    return build.maker(config)(**spaces, generator=torch.Generator())


@pytest.mark.parametrize(("name", "place"), CASES)
def test_layers_without_a_unit_are_named(name: str, place: str) -> None:
    if name.startswith("sb3"):
        pytest.importorskip("stable_baselines3")
    config = OmegaConf.create(MODELS[name])
    if "decodes" in config:
        config.decodes = ["reward", "state"]
    OmegaConf.update(config, place, [4, 0])
    with pytest.raises(Exception) as refused:
        made(config)
    key = place.rpartition(".")[2]
    assert str(cause(refused.value)) == f"{key} [4, 0]: expected layers of 1 unit or more each"


def test_every_model_with_layers_is_tried() -> None:
    assert len({name for name, _ in CASES}) >= 11
    assert {place for _, place in CASES} >= {"head_sizes", "hidden_sizes", "encoder_sizes"}
