"""Tasks that are read when the first are drawn."""

import pytest
import torch

from metarl.errors import UserError
from metarl.fewshot.deferred import DeferredTasks, packed, unpacked
from metarl.fewshot.sinusoid import Sinusoid
from metarl.fewshot.types import TaskSize, TaskSource
from metarl.struct import replace

SIZE = TaskSize(ways=1, shots=3, queries=2)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_they_are_made_once_when_drawn_and_are_the_same() -> None:
    made: list[TaskSource] = []

    def make() -> TaskSource:
        made.append(Sinusoid())
        return made[-1]

    spec = Sinusoid().spec
    tasks = DeferredTasks(spec, make).to("cpu")
    assert tasks.spec is spec and not made
    drawn = tasks.sample(2, SIZE, seeded())
    torch.testing.assert_close(
        drawn.support.y, Sinusoid().sample(2, SIZE, seeded()).support.y, rtol=0, atol=0
    )
    tasks.sample(1, SIZE, seeded())
    assert len(made) == 1


def test_other_data_are_refused() -> None:
    spec = replace(Sinusoid().spec, definition={"of": "another problem"})
    with pytest.raises(UserError, match=f"has the spec hash .*; expected {spec.spec_hash}"):
        DeferredTasks(spec, Sinusoid).sample(1, SIZE, seeded())


def test_a_spec_comes_back_from_a_file() -> None:
    spec = Sinusoid().spec
    assert unpacked(packed(spec)).spec_hash == spec.spec_hash
    assert unpacked(packed(spec)).input_shape == spec.input_shape
