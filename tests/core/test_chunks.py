"""Chunks of tasks: what is summed becomes the mean, what belongs to a task stays in its place,
whatever their size."""

import pytest
import torch

from metarl.core.chunks import ChunkSums, mean_over_chunks, over_chunks, take

DATA = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_means_are_over_all_tasks_and_each_task_keeps_its_place(size):
    def of_chunk(tasks):
        part = take(DATA, tasks)
        return ChunkSums(
            gradient={"w": torch.stack([part, -part]).sum(1)},
            numbers={"loss": part.sum()},
            each={"x": part + 1},
        )

    found = mean_over_chunks(of_chunk, 5, size)
    torch.testing.assert_close(found.gradient, {"w": torch.tensor([6.2, -6.2])})  # 31 / 5
    assert found.numbers["loss"].dtype == torch.float64 and found.numbers["loss"].item() == 6.2
    assert found.each["x"].tolist() == [2, 3, 5, 9, 17]


def test_what_isnt_found_is_left_out():
    found = mean_over_chunks(lambda tasks: ChunkSums(), 4, 3)
    assert (found.gradient, found.numbers, found.each) == ({}, {}, ())


def test_chunks_are_in_order_and_the_last_may_be_smaller():
    assert over_chunks(lambda tasks: (tasks.start, tasks.stop), 5, 2) == [(0, 2), (2, 4), (4, 5)]
    with pytest.raises(ValueError, match="chunk 0"):
        over_chunks(lambda tasks: tasks, 5, 0)
