"""Random numbers of nobody's in particular: a run has them to itself, and they follow its seed."""

# ruff: noqa: NPY002
# The old streams of numpy are what this is about.

import random

import numpy as np
import torch
from support.walker import Walker

from metarl.run.global_streams import GlobalStreams
from metarl.run.iteration import RunState
from metarl.run.seeding import Generators
from metarl.run.shown import RETURNS


def drawn():
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_they_go_on_where_they_were_left_and_the_programs_own_are_undisturbed():
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = [drawn() for _ in range(3)]
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    streams, found, between = GlobalStreams(0, "iteration", 3), [], []
    for _ in range(3):
        with streams:
            found.append(drawn())
        between.append(drawn())
    assert between == expected
    with GlobalStreams(0, "iteration", 3):
        assert [drawn() for _ in range(3)] == found
    with GlobalStreams(0, "iteration", 4):
        assert drawn() != found[0]


def test_they_are_put_back_after_an_error():
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    try:
        with GlobalStreams(0):
            torch.rand(())
            raise FloatingPointError
    except FloatingPointError:
        pass
    assert torch.rand(()) == expected


class Careless(Walker):
    """Asks nobody for a generator."""

    def iteration(self):
        yield "data"
        self.x += torch.randn(3) + float(np.random.randn()) + random.random()
        self.count += 1
        return {"env_steps": 1, "return_before": 0.0, "return_after": self.x.sum().item()}


def iterate(run, by_asking):
    if not by_asking:
        return run.iterate()
    asking = run.asking()
    next(asking)
    torch.rand(()), np.random.rand()  # of another run's, which goes on meanwhile
    try:
        asking.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it asks once")


def test_a_learner_that_draws_from_them_repeats_itself_and_goes_on_as_it_would():
    def made():
        return RunState(Careless(Generators(7)), Generators(7), RETURNS)

    whole = made()
    rows = [whole.iterate() for _ in range(4)]
    stopped = made()
    found = [iterate(stopped, by_asking) for by_asking in (True, False)]
    torch.manual_seed(99)
    resumed = made()
    resumed.load(stopped.content())
    assert [*found, *(iterate(resumed, by_asking) for by_asking in (False, True))] == rows
