"""Noise of several streams: each block of rows is what its stream draws alone, and one stream draws
torch's own numbers."""

import multiprocessing

import pytest
import torch

from metarl.noise import Noise


def streams(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


CONCENTRATION = torch.tensor([[0.5, 2.0], [3.0, 1.0], [7.0, 0.1], [1.0, 1.0]])
DRAWS = {
    "uniform": lambda noise, rows: noise.uniform(rows, 3, dtype=torch.float64),
    "normal": lambda noise, rows: noise.normal(rows, 3),
    "exponential": lambda noise, rows: noise.exponential(rows, 3),
    "integers": lambda noise, rows: noise.integers(1000, rows, 3),
    "gamma": lambda noise, rows: noise.gamma(CONCENTRATION[:rows]),
    "choices": lambda noise, rows: noise.choices(torch.ones(rows, 50)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_each_block_of_rows_is_what_its_stream_draws_alone(draw):
    if draw is DRAWS["gamma"]:
        draw = lambda noise, rows: noise.gamma(CONCENTRATION[:1].expand(rows, -1))
    together = Noise(*streams(3, 8))
    for _ in range(2):  # the streams move on
        both = draw(together, 4)
    for block, seed in enumerate((3, 8)):
        alone = Noise(*streams(seed))
        draw(alone, 2)
        assert torch.equal(both[2 * block : 2 * block + 2], draw(alone, 2))
    assert not torch.equal(both[:2], both[2:])


def test_one_stream_draws_torchs_own_numbers():
    noise, theirs = Noise(*streams(5)), streams(5)[0]
    assert torch.equal(
        noise.uniform(2, 3, dtype=torch.float64),
        torch.rand(2, 3, generator=theirs, dtype=torch.float64),
    )
    assert torch.equal(noise.normal(4), torch.empty(4).normal_(generator=theirs))
    assert torch.equal(noise.exponential(4), torch.empty(4).exponential_(generator=theirs))
    assert torch.equal(noise.integers(2**31, 4), torch.randint(2**31, (4,), generator=theirs))
    assert torch.equal(
        noise.gamma(CONCENTRATION), torch._standard_gamma(CONCENTRATION, generator=theirs)
    )
    assert torch.equal(
        noise.choices(CONCENTRATION), torch.multinomial(CONCENTRATION, 1, generator=theirs)[:, 0]
    )


def test_rows_may_lie_in_another_dimension():
    both = Noise(*streams(3, 8)).normal(5, 4, 2, dim=1)
    assert torch.equal(both[:, 2:], Noise(*streams(8)).normal(5, 2, 2, dim=1))


def test_what_cant_be_shared_out_is_refused():
    with pytest.raises(ValueError, match="3 rows can't be shared out among 2 streams"):
        Noise(*streams(0, 1)).uniform(3)
    with pytest.raises(ValueError, match="there are 2 streams; expected 1"):
        Noise(*streams(0, 1)).alone
    with pytest.raises(ValueError, match="at least one generator"):
        Noise()


def test_a_stream_stops_when_all_its_rows_have():
    """As it would alone, where nothing is drawn after that."""
    together, alone = Noise(*streams(3, 8)), Noise(*streams(3))
    first = alone.normal(2)
    assert torch.equal(together.normal(4)[:2], first)
    running = torch.tensor([True, False, False, False])
    drawn = together.while_running(running).normal(4)
    assert torch.equal(drawn[:2], alone.normal(2)) and drawn.isfinite().all()
    together.while_running(running.flip(0)).normal(4)
    found, expected = together.normal(4), Noise(*streams(8))
    for _ in range(2):
        expected.normal(2)
    assert torch.equal(found[:2], alone.normal(2))
    assert torch.equal(found[2:], expected.normal(2))


def draw_there(noise, answer):
    answer.put(noise.normal(2, 3).tolist())


def test_it_passes_into_a_process_that_is_begun_anew():
    spawned = multiprocessing.get_context("spawn")
    noise, answer = Noise(*streams(5, 6)), spawned.Queue()
    process = spawned.Process(target=draw_there, args=(noise, answer))
    process.start()
    assert answer.get(timeout=60) == noise.normal(2, 3).tolist()
    process.join()
