"""The first weights of the published VariBAD: lengths of rows, products of orthogonal matrices,
bounds."""

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch

from metarl.nn.step_decoders import RewardDecoder, StateDecoder
from metarl.nn.trial_encoder import TrialEncoder
from metarl.rl.models.belief import BeliefModel

SEEN = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
CONTINUOUS = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)


def model(space: gymnasium.Space = CONTINUOUS, first_weights: str = "published") -> BeliefModel:
    embedded = {"obs_embedding": 7, "action_embedding": 4, "hidden_sizes": [9, 8]}
    return BeliefModel(
        SEEN,
        space,
        latent_size=2,
        encoder=partial(
            TrialEncoder,
            hidden_size=8,
            next_obs_embedding=9,
            reward_embedding=4,
            action_embedding=4,
            obs_embedding=0,
        ),
        decodes=["reward", "state"],
        reward_decoder=partial(RewardDecoder, **embedded),
        state_decoder=partial(StateDecoder, **embedded),
        obs_embedding=16,
        belief_embedding=16,
        head_sizes=[12, 10],
        activation="tanh",
        init_std=1.0,
        min_std=1e-6,
        first_weights=first_weights,
        generator=torch.Generator().manual_seed(0),
    )


def test_rows_of_heads_have_one_length() -> None:
    heads = model().heads
    for network in (heads.policy.trunk, heads.value_head):
        for layer in list(network.layers)[:-1]:
            torch.testing.assert_close(
                layer.weight.norm(dim=1), torch.full((len(layer.weight),), 5 / 3)
            )
            assert not layer.bias.any()
    last = heads.policy.trunk.layers[-1]
    torch.testing.assert_close(last.weight.norm(dim=1), torch.ones(3))
    assert not last.bias.any()


def test_logits_are_small_and_orthogonal() -> None:
    last = model(gymnasium.spaces.Discrete(4)).heads.policy.trunk.layers[-1]
    torch.testing.assert_close(last.weight @ last.weight.T, 1e-4 * torch.eye(4))


def test_the_memory_is_orthogonal() -> None:
    memory = dict(model().encoder.memory.named_parameters())
    for name, leaf in memory.items():
        if "bias" in name:
            assert not leaf.any()
        else:  # [3 H, I] with more rows than columns
            product = leaf.T @ leaf
            torch.testing.assert_close(product, torch.eye(len(product)), rtol=1e-5, atol=1e-5)
    assert len(memory) == 4


def test_other_layers_are_uniform_up_to_the_root_of_their_inputs() -> None:
    made = model()
    heads = made.heads
    modules = [made.encoder.embeddings, made.encoder.head, made.decoders]
    modules += [heads.obs_layer, heads.belief_layer, heads.value_head.layers[-1]]
    layers = [x for m in modules for x in m.modules() if isinstance(x, torch.nn.Linear)]
    # Encoder: 3 embeddings and a head. Each decoder: 2 embeddings and 3 layers. 3 of the heads.
    assert len(layers) == 4 + 10 + 3
    shares = []
    for layer in layers:
        scaled = torch.cat([layer.weight.flatten(), layer.bias]) * layer.in_features**0.5
        assert scaled.abs().max() <= 1 and layer.bias.any()
        shares.append(scaled)
    assert torch.cat(shares).std().item() == pytest.approx(3**-0.5, rel=0.05)  # of U[−1, 1]


def test_without_being_asked_weights_are_as_in_other_networks() -> None:
    layer = model(first_weights="xavier").heads.obs_layer.layers[0]
    assert not layer.bias.any() and layer.weight.abs().max() > layer.in_features**-0.5


def test_another_way_is_refused() -> None:
    with pytest.raises(ValueError, match="first_weights 'normal': expected xavier or published"):
        model(first_weights="normal")
