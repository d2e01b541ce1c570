"""What is measured on held-out tasks: accuracy, intervals, and that equal seeds give every learner
the same tasks."""

import pytest
import torch

from metarl.fewshot.digits import digits
from metarl.fewshot.evaluate import adaptation_measures, interval, interval_over_seeds_and_tasks
from metarl.fewshot.losses import accuracy, cross_entropy, mean_squared_error
from metarl.fewshot.types import TaskSize

SIZE = TaskSize(ways=3, shots=1, queries=2)


class Remembering:
    """Answers k for every question after k updates, and keeps what it was asked."""

    num_updates, transductive = 2, False

    def __init__(self):
        self.questions = []

    def begin(self, num_tasks):
        return 0

    def update(self, state, data):
        return state + 1

    def predict(self, state, x):
        self.questions.append((state, x))
        return torch.eye(3)[state].expand(*x.shape[:2], 3)


def measures(adapter, num_tasks, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return adaptation_measures(
        adapter, digits(), SIZE, num_tasks=num_tasks, num_updates=2, generator=generator
    )


def test_each_task_is_measured_after_every_update():
    values = measures(Remembering(), 50)
    # Always answering one of three classes with two questions each is right for two of six.
    assert values.shape == (50, 3)
    torch.testing.assert_close(values, torch.full((50, 3), 1 / 3))


def test_every_adapter_gets_the_same_tasks_and_a_longer_list_starts_with_the_shorter():
    long, short, other = Remembering(), Remembering(), Remembering()
    measures(long, 47), measures(short, 25), measures(other, 25, seed=1)
    asked = [
        torch.cat([x for state, x in adapter.questions if state == 0])
        for adapter in (long, short, other)
    ]
    assert torch.equal(asked[0][:25], asked[1]) and not torch.equal(asked[1], asked[2])


def test_interval_is_the_normal_one():
    # Mean 3, standard deviation √(2.5), five values: 1.96 √(2.5 / 5) = 1.3859.
    found = interval(torch.tensor([1.0, 2, 3, 4, 5]))
    assert (found.mean, found.num_tasks) == (3.0, 5) and found.half_width == pytest.approx(
        1.38593, abs=1e-5
    )
    assert interval(torch.tensor([0.5])).half_width == 0
    for bad in (torch.tensor([]), torch.tensor([1.0, float("nan")])):
        with pytest.raises(ValueError):
            interval(bad)


def test_tasks_that_several_seeds_meet_count_once():
    tasks = torch.rand(200, generator=torch.Generator().manual_seed(0))
    one, same = interval(tasks), interval_over_seeds_and_tasks(tasks.expand(4, -1))
    assert (same.mean, same.half_width, same.num_tasks) == pytest.approx(
        (one.mean, one.half_width, 200)
    )


def test_seeds_are_clusters():
    # Seeds' means .5 and .7: variance .02; t = 12.7062: 12.7062² · .02 / 2 = 1.61448. Tasks' means
    # .55 and .65: variance .005; 1.96² · .005 / 2 = .00960. √1.62408 = 1.27439.
    found = interval_over_seeds_and_tasks(torch.tensor([[0.4, 0.6], [0.7, 0.7]]))
    assert (found.mean, found.half_width) == pytest.approx((0.6, 1.27439), abs=1e-5)


@pytest.mark.parametrize(
    ("of_seeds", "of_tasks", "of_both"), [(0.3, 1.0, 0.5), (0.05, 1.0, 0.0), (0.0, 0.0, 1.0)]
)
def test_interval_over_seeds_holds_what_another_seed_and_other_tasks_have(
    of_seeds, of_tasks, of_both
):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)
    held = 0
    for _ in range(400):
        values = of_seeds * draw(3, 1) + of_tasks * draw(1, 50) + of_both * draw(3, 50)
        found = interval_over_seeds_and_tasks(values)
        held += abs(found.mean) <= found.half_width
    assert held >= 372  # 95 % of 400 is 380, with a standard deviation of 4.4.


def test_accuracy_shares_out_ties():
    logits = torch.tensor([[2.0, 1, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]])
    # Right; one of three; one of two; wrong.
    assert accuracy(logits, torch.tensor([0, 1, 1, 2])).item() == pytest.approx(
        (1 + 1 / 3 + 1 / 2) / 4
    )


def test_accuracy_of_a_network_that_diverged_is_not_a_number_and_not_zero():
    logits = torch.zeros(3, 2, 3)
    logits[0, 0, 1], logits[1, 1, 2], logits[2, 0, 0] = torch.nan, torch.inf, -torch.inf
    found = accuracy(logits, torch.tensor([[0, 1]] * 3))
    assert found.isnan().tolist() == [True, True, False]
    assert found[2].item() == pytest.approx((0 + 1 / 3) / 2)


def test_losses_take_one_task_or_many(generator):
    logits, y = (
        torch.randn(4, 6, 3, generator=generator),
        torch.randint(3, (4, 6), generator=generator),
    )
    theirs = torch.stack(
        [torch.nn.functional.cross_entropy(a, b) for a, b in zip(logits, y, strict=True)]
    )
    torch.testing.assert_close(cross_entropy(logits, y), theirs)
    torch.testing.assert_close(cross_entropy(logits[1], y[1]), theirs[1])
    values = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    assert mean_squared_error(values, torch.zeros(2, 2, 1)).tolist() == [2.5, 12.5]


@pytest.mark.parametrize(("words", "split"), [({}, "test"), ({"split": "train"}, "train")])
def test_tasks_are_of_the_split_that_is_asked_for(words, split):
    adapter, source = Remembering(), digits()
    generator = torch.Generator().manual_seed(0)
    adaptation_measures(
        adapter, source, SIZE, num_tasks=3, num_updates=2, generator=generator, **words
    )
    asked = torch.cat([x.flatten(0, 1) for _, x in adapter.questions])
    pictures = {
        of: {picture.numpy().tobytes() for picture in source.classes(of).pictures}
        for of in ("train", "test")
    }
    found = {(255 * x).round().to(torch.uint8).numpy().tobytes() for x in asked}
    assert [of for of, all_of_them in pictures.items() if found <= all_of_them] == [split]
