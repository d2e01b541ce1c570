"""The encoder of a trial: that it sees each part of a step, in order, and no further back than it
may."""

import pytest
import torch

from metarl.nn.trial_encoder import StepParts, TrialEncoder
from metarl.struct import map_tensors, replace

SIZES = {"obs_size": 3, "action_size": 2, "latent_size": 4, "hidden_size": 6}
EMBEDDINGS = {
    "next_obs_embedding": 9,
    "reward_embedding": 8,
    "action_embedding": 8,
    "obs_embedding": 9,
}


def encoder(**others) -> TrialEncoder:
    generator = torch.Generator().manual_seed(0)
    return TrialEncoder(**SIZES | EMBEDDINGS | others, generator=generator).double()


def steps(num_trials: int = 2, num_steps: int = 5) -> StepParts:
    generator = torch.Generator().manual_seed(1)

    def drawn(*sizes: int) -> torch.Tensor:
        shape = (num_trials, num_steps, *sizes)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return StepParts(
        obs=drawn(3), action=drawn(2), reward=drawn(), next_obs=drawn(3), flags=drawn(2)
    )


def test_step_by_step_it_believes_what_it_believes_of_the_sequence() -> None:
    model, parts = encoder(), steps()
    whole = model.sequence(parts)
    hidden = model.initial(2)
    for time in range(6):
        belief = model.belief(hidden)
        torch.testing.assert_close(belief.mean, whole.mean[:, time])
        torch.testing.assert_close(belief.log_variance, whole.log_variance[:, time])
        if time < 5:
            hidden = model.step(map_tensors(lambda leaf, at=time: leaf[:, at], parts), hidden)


def test_a_trial_that_waits_keeps_its_state() -> None:
    model, parts = encoder(), map_tensors(lambda leaf: leaf[:, 0], steps())
    before = torch.randn(2, 6, dtype=torch.float64)
    after = model.step(parts, before, torch.tensor([True, False]))
    assert torch.equal(after[1], before[1]) and not torch.equal(after[0], before[0])


@pytest.mark.parametrize("part", ["obs", "action", "reward", "next_obs", "flags"])
def test_each_part_of_a_step_tells_beliefs_from_then_on(part) -> None:
    model, parts = encoder(), steps()
    other = getattr(parts, part).clone()
    other[:, 2] += 1
    changed = model.sequence(replace(parts, **{part: other})).mean != model.sequence(parts).mean
    assert not changed[:, :3].any() and changed[:, 3:].any(-1).all()


@pytest.mark.parametrize("part", ["obs", "action"])
def test_a_part_without_an_embedding_is_left_out(part) -> None:
    model, parts = encoder(**{f"{part}_embedding": 0}), steps()
    other = replace(parts, **{part: getattr(parts, part) + 1})
    assert torch.equal(model.sequence(other).mean, model.sequence(parts).mean)


def test_truncation_changes_no_belief_but_where_gradients_end() -> None:
    model, parts = encoder(), steps()
    parts = replace(parts, reward=parts.reward.clone().requires_grad_())
    whole, cut = model.sequence(parts), model.sequence(parts, truncation=2)
    torch.testing.assert_close(cut.mean, whole.mean)
    reaches = []
    for belief in (whole, cut):
        (gradient,) = torch.autograd.grad(belief.mean[0, 4].sum(), parts.reward, retain_graph=True)
        reaches.append((gradient[0] != 0).tolist())
    # The belief after the fourth step: the stretches are steps 0 and 1, 2 and 3, and 4.
    assert reaches == [[True] * 4 + [False], [False, False, True, True, False]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_size": 0}, "latent_size 0: expected 1 or more"),
        ({"hidden_size": 0}, "hidden_size 0"),
        ({"reward_embedding": 0}, "reward_embedding 0: expected 1 or more"),
    ],
)
def test_sizes_that_are_too_small_are_named(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(**settings)
