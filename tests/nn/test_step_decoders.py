"""Decoders of steps: that each pair of a sample and a step is what the network says of the two
alone."""

import math
import re

import pytest
import torch

from metarl.nn.step_decoders import OF_A_REWARD, RewardDecoder, RewardMap, StateDecoder
from metarl.nn.trial_encoder import StepParts
from metarl.struct import replace

SIZES = {"latent_size": 3, "obs_size": 4, "action_size": 2, "hidden_sizes": [6, 5]}


def made(kind, **others):
    return kind(**SIZES | others, generator=torch.Generator().manual_seed(0)).double()


def steps(num: int = 7) -> StepParts:
    drawn = torch.Generator().manual_seed(1)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(2, num, *sizes, generator=drawn, dtype=torch.float64)

    return StepParts(
        obs=normal(4), action=normal(2), reward=normal(), next_obs=normal(4), flags=normal(2)
    )


LATENT = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("hidden_sizes", [[6], [6, 5], [4, 4, 4]])
def test_a_reward_is_what_the_perceptron_says_of_sample_and_step(hidden_sizes) -> None:
    decoder, parts = made(RewardDecoder, hidden_sizes=hidden_sizes), steps()
    error = decoder.error(LATENT, parts)
    assert error.shape == (2, 5, 7)
    for row, sample, step in [(0, 0, 0), (1, 4, 6), (0, 3, 2)]:
        known = [parts.next_obs[row, step], parts.action[row, step], parts.obs[row, step]]
        said = decoder.pairs.network(torch.cat([LATENT[row, sample], *known]))
        expected = (said.squeeze() - parts.reward[row, step]) ** 2
        torch.testing.assert_close(error[row, sample, step], expected)


def test_a_next_observation_is_judged_by_the_mean_over_its_numbers() -> None:
    decoder, parts = made(StateDecoder), steps()
    error = decoder.error(LATENT, parts)
    known = [parts.action[1, 3], parts.obs[1, 3]]
    said = decoder.pairs.network(torch.cat([LATENT[1, 2], *known]))
    expected = (said - parts.next_obs[1, 3]).square().sum() / 4
    torch.testing.assert_close(error[1, 2, 3], expected)


@pytest.mark.parametrize("hidden", ["action", "obs", "next_obs"])
def test_a_reward_is_told_from_what_the_decoder_sees(hidden) -> None:
    sees, parts = [name for name in OF_A_REWARD if name != hidden], steps()
    decoder = made(RewardDecoder, sees=sees[::-1])
    for name in OF_A_REWARD:
        other = replace(parts, **{name: getattr(parts, name) + 1.0})
        same = torch.equal(decoder(LATENT, other), decoder(LATENT, parts))
        assert same == (name == hidden)


@pytest.mark.parametrize("sees", [[], ["next_obs", "reward"], "obs"])
def test_what_a_reward_cannot_be_told_from_is_refused(sees) -> None:
    message = f"sees {sees}: expected a list of some of next_obs, action, obs"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        made(RewardDecoder, sees=sees)


@pytest.mark.parametrize("kind", [RewardDecoder, StateDecoder])
def test_parts_of_a_step_may_go_through_layers_of_their_own_first(kind) -> None:
    decoder, parts = made(kind, obs_embedding=3, action_embedding=5), steps()
    layers = decoder.pairs.layers
    seen = [layers["action"](parts.action[1, 3]).relu(), layers["obs"](parts.obs[1, 3]).relu()]
    if kind is RewardDecoder:  # Both observations go through one layer.
        seen = [layers["obs"](parts.next_obs[1, 3]).relu(), *seen]
    said = decoder.pairs.network(torch.cat([LATENT[1, 2], *seen]))
    truth = parts.reward[1, 3] if kind is RewardDecoder else parts.next_obs[1, 3]
    expected = (said - truth).square().mean()
    torch.testing.assert_close(decoder.error(LATENT, parts)[1, 2, 3], expected)
    assert seen[-1].shape == (3,) and seen[-2].shape == (5,)


def test_a_map_is_judged_where_the_step_leads() -> None:
    decoder = made(RewardMap)
    to = torch.tensor([[0, 2, 3], [1, 1, 2]])
    one_hot = torch.nn.functional.one_hot(to, 4).double()
    none = torch.zeros(2, 3, 4, dtype=torch.float64)
    reward = torch.tensor([[1.0, -0.1, 0.5], [-0.1, 1.0, 0.0]], dtype=torch.float64)
    parts = StepParts(
        obs=none, action=none[..., :2], reward=reward, next_obs=one_hot, flags=none[..., :2]
    )
    error = decoder.error(LATENT, parts)
    for row, sample, step in [(0, 0, 0), (0, 4, 1), (1, 2, 1), (1, 3, 2)]:
        logit = decoder(LATENT[row, sample])[to[row, step]].item()
        chance = 1 / (1 + math.exp(-logit))
        expected = -math.log(chance if reward[row, step] > 0 else 1 - chance)
        assert error[row, sample, step].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [RewardDecoder, StateDecoder, RewardMap])
def test_a_decoder_without_a_hidden_layer_is_refused(kind) -> None:
    with pytest.raises(ValueError, match=r"hidden_sizes \[\]: expected one layer or more"):
        made(kind, hidden_sizes=[])
