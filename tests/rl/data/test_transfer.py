"""Facts about how a step comes to the learner's device: one by one, or packed."""

import pytest
import torch

from metarl.rl.data.transfer import Transfer
from metarl.rl.types import Step


def step(seed: int, num_worlds: int = 3) -> Step:
    generator = torch.Generator().manual_seed(seed)
    flag = lambda: torch.rand(num_worlds, generator=generator) < 0.5
    return Step(
        next_obs=torch.randn(num_worlds, 4, generator=generator),
        reward=torch.randn(num_worlds, generator=generator),
        terminated=flag(),
        truncated=flag(),
        diverged=flag(),
        terms={"speed": torch.randn(num_worlds, generator=generator), "success": flag()},
    )


@pytest.mark.parametrize("packs", [False, True])
def test_what_comes_is_what_was_sent_and_stays_when_more_comes(packs: bool) -> None:
    bring, sent = Transfer("cpu", packs=packs), [step(seed) for seed in range(5)]
    brought = [bring(one) for one in sent]
    for one, other in zip(sent, brought, strict=True):
        for name in ("next_obs", "reward", "terminated", "truncated", "diverged"):
            assert torch.equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
        assert all(torch.equal(one.terms[name], other.terms[name]) for name in one.terms)


def test_a_step_that_is_there_already_stays_as_it_is() -> None:
    sent = step(0)
    assert Transfer("cpu")(sent) is sent


def test_packed_tensors_are_copies_and_may_grow() -> None:
    bring, small, large = Transfer("cpu", packs=True), step(0), step(1, num_worlds=9)
    for sent in (small, large, small):
        kept = sent.reward.clone()
        brought = bring(sent)
        sent.reward.zero_()
        assert torch.equal(brought.reward, kept)
        sent.reward.copy_(kept)


def test_what_is_on_another_device_is_not_packed() -> None:
    brought = Transfer("meta", packs=True)({"x": torch.zeros(2, device="meta")})
    assert brought["x"].device.type == "meta"


@pytest.mark.gpu
def test_a_step_comes_to_the_gpu_whole() -> None:
    bring, sent = Transfer("cuda"), [step(seed, num_worlds=1000) for seed in range(20)]
    brought = [bring(one) for one in sent]
    assert all(
        torch.equal(a.next_obs, b.next_obs.cpu()) for a, b in zip(sent, brought, strict=True)
    )
    assert all(
        torch.equal(a.diverged, b.diverged.cpu()) for a, b in zip(sent, brought, strict=True)
    )
