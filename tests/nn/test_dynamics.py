"""Dynamics models: normalisation, memory step by step against the whole sequence, and imagined
returns against plain loops."""

import pytest
import torch

from metarl.core import params as P
from metarl.nn.dynamics import FeedForwardDynamics, RecurrentDynamics, Transitions, imagined_returns

O, A = 3, 2


def random_transitions(generator, *shape, dtype=torch.float64) -> Transitions:
    """Columns of very different scale and offset."""

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=dtype)

    obs = draw(*shape, O) * torch.tensor([1.0, 20.0, 0.1], dtype=dtype) + torch.tensor(
        [5.0, -3.0, 0.0], dtype=dtype
    )
    next_obs = obs + 0.3 * draw(*shape, O) + 1.0
    mask = torch.ones(*shape, dtype=torch.bool)
    return Transitions(
        obs=obs, action=draw(*shape, A), next_obs=next_obs, reward=7 + 2 * draw(*shape), mask=mask
    )


def feed_forward(generator) -> FeedForwardDynamics:
    model = FeedForwardDynamics(O, A, (8, 6), activation="relu", generator=generator).double()
    model.normaliser.fit(random_transitions(generator, 50))
    return model


def recurrent(generator, num_models=2) -> RecurrentDynamics:
    sizes = {"num_models": num_models, "memory_size": 4, "hidden_sizes": (8, 6)}
    model = RecurrentDynamics(O, A, activation="tanh", generator=generator, **sizes).double()
    model.normaliser.fit(random_transitions(generator, 50))
    for bias in model.biases:  # zero at the start, which would hide a bias in the wrong place
        bias.data.normal_(generator=generator)
    return model


def test_normalised_data_has_zero_mean_and_unit_deviation(generator):
    data = random_transitions(generator, 7, 30)
    normaliser = feed_forward(generator).normaliser
    normaliser.fit(data)
    for columns in (normaliser.inputs(data.obs, data.action), normaliser.targets(data)):
        torch.testing.assert_close(
            columns.flatten(0, 1).mean(0), torch.zeros(columns.shape[-1]).double()
        )
        torch.testing.assert_close(
            columns.flatten(0, 1).std(0, correction=0), torch.ones(columns.shape[-1]).double()
        )


def test_predictions_are_brought_back_to_physical_units(generator):
    data = random_transitions(generator, 20)
    normaliser = feed_forward(generator).normaliser
    change, reward = normaliser.prediction(normaliser.targets(data))
    torch.testing.assert_close(change, data.next_obs - data.obs)
    torch.testing.assert_close(reward, data.reward)


def test_masked_transitions_do_not_move_the_normaliser(generator):
    data = random_transitions(generator, 20)
    model = feed_forward(generator)
    model.normaliser.fit(Transitions(**{name: leaf[:12] for name, leaf in vars(data).items()}))
    expected = {name: leaf.clone() for name, leaf in model.normaliser.state_dict().items()}
    data.obs[12:], data.reward[12:], data.mask[12:] = 1e6, -1e6, False
    model.normaliser.fit(data)
    torch.testing.assert_close(dict(model.normaliser.state_dict()), expected)


def test_a_column_that_never_changes_stays_finite(generator):
    data = random_transitions(generator, 20)
    data.obs[:, 0] = data.next_obs[:, 0] = 4.0
    normaliser = feed_forward(generator).normaliser
    normaliser.fit(data)
    assert normaliser.inputs(data.obs, data.action).abs().max() < 10
    assert normaliser.targets(data)[:, 0].abs().max() == 0


def test_memory_fed_step_by_step_is_that_of_the_whole_sequence(generator):
    model, trials, steps = recurrent(generator), 3, 9
    evidence = model.evidence(random_transitions(generator, trials, steps))
    whole = model.memories(
        model.empty_memory(trials), evidence, torch.ones(trials, steps, dtype=torch.bool)
    )
    memory = model.empty_memory(trials)
    for t in range(steps):
        torch.testing.assert_close(
            whole[:, :, t], memory
        )  # before the transition, which it must not know
        memory = model.remember(memory, evidence[:, t])
    torch.testing.assert_close(whole[:, :, steps], memory)


def test_memory_is_that_of_torch_gru(generator):
    model = recurrent(generator, num_models=1)
    evidence = model.evidence(random_transitions(generator, 2, 5))
    gru = torch.nn.GRU(evidence.shape[-1], model.memory_size, batch_first=True).double()
    gru.weight_ih_l0.data, gru.bias_ih_l0.data = (
        model.evidence_weight.data[0].T,
        model.evidence_bias.data[0],
    )
    gru.weight_hh_l0.data, gru.bias_hh_l0.data = (
        model.memory_weight.data[0].T,
        model.memory_bias.data[0],
    )
    ours = model.memories(model.empty_memory(2), evidence, torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(ours[0, :, 1:], gru(evidence)[0])


def test_masked_steps_leave_the_memory_as_it_is(generator):
    model = recurrent(generator)
    evidence, mask = (
        model.evidence(random_transitions(generator, 2, 6)),
        torch.ones(2, 6, dtype=torch.bool),
    )
    mask[1, 3:] = False
    along = model.memories(model.empty_memory(2), evidence, mask)
    alone = model.memories(model.empty_memory(1), evidence[1:, :3], mask[1:, :3])
    torch.testing.assert_close(along[:, 1:, 3:], alone[:, :, 3:].expand(-1, -1, 4, -1))


def test_the_ensembles_memories_do_not_mix(generator):
    model = recurrent(generator)
    evidence = model.evidence(random_transitions(generator, 3, 4))
    mask = torch.ones(3, 4, dtype=torch.bool)
    before = model.memories(model.empty_memory(3), evidence, mask)
    with torch.no_grad():
        model.memory_weight[1] += 1.0  # another model's
    evidence[2] += 1.0  # another trial's
    after = model.memories(model.empty_memory(3), evidence, mask)
    torch.testing.assert_close(after[0, :2], before[0, :2])
    assert (after[1, 0] - before[1, 0]).abs().max() > 1e-3 and (
        after[0, 2] - before[0, 2]
    ).abs().max() > 1e-3


def imagined_one_by_one(predict, normaliser, obs, actions) -> torch.Tensor:
    """predict: normalised inputs [1, I] -> normalised outputs [1, O + 1]; obs [O], actions [H, A]
    -> the return []."""
    total = torch.zeros((), dtype=torch.float64)
    for action in actions:
        change, reward = normaliser.prediction(predict(normaliser.inputs(obs, action)[None])[0])
        obs, total = obs + change, total + reward
    return total


def test_imagined_returns_of_stacked_networks_are_those_of_each_alone(generator):
    model, worlds, candidates, horizon = feed_forward(generator), 3, 4, 5
    stacked = {
        name: torch.stack(
            [leaf + 0.1 * torch.randn(leaf.shape, generator=generator) for _ in range(worlds)]
        )
        for name, leaf in P.of(model.trunk).items()
    }
    obs = torch.randn(worlds, candidates, O, generator=generator, dtype=torch.float64)
    actions = torch.randn(horizon, worlds, candidates, A, generator=generator, dtype=torch.float64)
    found = imagined_returns(model.layers(stacked), obs, actions, "relu")
    for w in range(worlds):
        for c in range(candidates):
            alone = imagined_one_by_one(
                lambda x, w=w: P.call(model.trunk, P.task(stacked, w), x),
                model.normaliser,
                obs[w, c],
                actions[:, w, c],
            )
            torch.testing.assert_close(found[w, c], alone)


def test_imagined_returns_hold_each_worlds_memory(generator):
    model, worlds, candidates, horizon = recurrent(generator), 3, 4, 5
    memory = torch.randn(2, worlds, 4, generator=generator, dtype=torch.float64)
    obs = torch.randn(2, worlds * candidates, O, generator=generator, dtype=torch.float64)
    actions = torch.randn(
        horizon, 2, worlds * candidates, A, generator=generator, dtype=torch.float64
    )
    found = imagined_returns(model.layers(memory), obs, actions, "tanh")
    for m in range(2):
        for row in range(worlds * candidates):
            own = memory[:, row // candidates, None]
            alone = imagined_one_by_one(
                lambda x, m=m, own=own: model.predict(x, own)[m],
                model.normaliser,
                obs[m, row],
                actions[:, m, row],
            )
            # Softer than exact: outside autograd float64's tanh is torch's, so that only the
            # folding's rounding differs.
            torch.testing.assert_close(found[m, row], alone)


@pytest.mark.parametrize(
    "setting", [{"num_models": 0}, {"memory_size": 0}, {"hidden_sizes": (8, 0)}]
)
def test_sizes_below_one_are_refused(setting):
    sizes = {"num_models": 2, "memory_size": 4, "hidden_sizes": (8,)} | setting
    with pytest.raises(ValueError, match="expected .*1 (unit )?or more"):
        RecurrentDynamics(O, A, activation="tanh", **sizes)
