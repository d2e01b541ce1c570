"""What holds for every source of few-shot tasks, and what is particular to pictures and to the
sinusoid."""

import math

import pytest
import torch

from metarl.fewshot.digits import digits
from metarl.fewshot.images import ImageClasses, ImageTasks, resized
from metarl.fewshot.logistic import Logistic
from metarl.fewshot.sinusoid import Sinusoid
from metarl.fewshot.types import TaskSize


def uneven() -> ImageTasks:
    """Classes of 7, 5, 9, 6, 8, 5 pictures for training and three others for test; a picture's two
    pixels are its class and its number."""

    def classes(first: int, counts: list[int]) -> ImageClasses:
        pixels = [(first + k, i) for k, count in enumerate(counts) for i in range(count)]
        return ImageClasses(
            pictures=torch.tensor(pixels, dtype=torch.uint8).reshape(-1, 1, 1, 2),
            counts=torch.tensor(counts),
            names=tuple(f"class {first + k}" for k in range(len(counts))),
        )

    return ImageTasks(
        "uneven",
        {"train": classes(0, [7, 5, 9, 6, 8, 5]), "test": classes(6, [5, 5, 5])},
        definition={},
    )


SOURCES = {
    "sinusoid": (Sinusoid(), TaskSize(ways=1, shots=4, queries=3)),
    "logistic": (Logistic(num_dimensions=3), TaskSize(ways=2, shots=4, queries=3)),
    "digits": (digits(), TaskSize(ways=5, shots=2, queries=3)),
    "uneven": (uneven(), TaskSize(ways=3, shots=2, queries=3)),
}


@pytest.fixture(params=SOURCES)
def source_and_size(request):
    return SOURCES[request.param]


def pixels(x):
    """The class and the number that a picture of `uneven` shows."""
    return (x * 255).round().long().flatten(-3).unbind(-1)


def test_shapes_are_those_that_the_spec_and_the_size_say(source_and_size, generator):
    source, size = source_and_size
    episodes = source.sample(6, size, generator)
    for examples, count in ((episodes.support, size.shots), (episodes.query, size.queries)):
        assert examples.x.shape == (6, size.ways * count, *source.spec.input_shape)
        assert examples.x.dtype == torch.float32
        answers = (6, size.ways * count)
        assert examples.y.shape == (
            answers if source.spec.kind == "classification" else (*answers, 1)
        )


def test_the_same_seed_gives_the_same_tasks_and_another_one_others(source_and_size):
    source, size = source_and_size
    draw = lambda seed: source.sample(6, size, torch.Generator().manual_seed(seed))
    one, same, other = draw(1), draw(1), draw(2)
    assert torch.equal(one.support.x, same.support.x) and torch.equal(one.query.y, same.query.y)
    assert not torch.equal(one.support.x, other.support.x)


def test_every_class_has_its_shots_and_queries(source_and_size, generator):
    source, size = source_and_size
    if source.spec.kind == "regression":
        pytest.skip("no classes")
    episodes = source.sample(6, size, generator)
    for examples, count in ((episodes.support, size.shots), (episodes.query, size.queries)):
        for labels in examples.y:
            assert labels.bincount(minlength=size.ways).tolist() == [count] * size.ways


def test_a_label_stands_for_one_class_and_no_picture_comes_twice(generator):
    source, size = SOURCES["uneven"]
    episodes = source.sample(50, size, generator)
    for support_x, support_y, query_x, query_y in zip(
        episodes.support.x, episodes.support.y, episodes.query.x, episodes.query.y, strict=True
    ):
        shown, number = pixels(torch.cat([support_x, query_x]))
        labels = torch.cat([support_y, query_y])
        assert (
            len(set(zip(shown.tolist(), labels.tolist(), strict=True)))
            == size.ways
            == len(set(shown.tolist()))
        )
        assert len(set(zip(shown.tolist(), number.tolist(), strict=True))) == len(labels)


def test_all_classes_and_pictures_are_drawn_equally_often(generator):
    source, size = SOURCES["uneven"]
    episodes = source.sample(4000, size, generator)
    shown, number = pixels(episodes.support.x)
    # 4000 tasks hold each of 6 classes with probability 1/2: 2000 ± 32; 2 pictures each time. 5
    # standard deviations.
    classes = shown.flatten().bincount(minlength=6)
    assert classes.sub(4000).abs().max() < 5 * 2 * 32
    # A picture of a class of n comes with probability 2/n when its class does.
    of_first = number[shown == 0].bincount(minlength=7)
    expected = 2000 * 2 / 7
    assert of_first.sub(expected).abs().max() < 5 * math.sqrt(expected)


def test_neither_the_order_of_classes_nor_the_place_in_the_batch_tells_the_label(generator):
    source, size = SOURCES["uneven"]
    episodes = source.sample(4000, size, generator)
    for examples in (episodes.support, episodes.query):
        shown, _ = pixels(examples.x)
        # At every place of the batch, and for every class, each of three labels comes in a third of
        # 4000 tasks (of half of them, a class's), ± √(1/3 · 2/3 / n), 5 of them.
        labels = torch.nn.functional.one_hot(examples.y, size.ways).double()
        assert (labels.mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(2 / 9 / 4000)
        for k in range(6):
            assert (labels[shown == k].mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(2 / 9 / 2000)


def test_no_test_class_is_in_training(generator):
    source, size = SOURCES["uneven"]
    for split, allowed in (("train", set(range(6))), ("test", {6, 7, 8})):
        episodes = source.sample(500, size, generator, split)
        shown, _ = pixels(torch.cat([episodes.support.x, episodes.query.x], 1))
        assert set(shown.flatten().tolist()) == allowed


def test_digits_share_no_class_between_training_and_test():
    train, test = (digits().classes(split).names for split in ("train", "test"))
    assert (
        len(train) == 20
        and {name.split()[0] for name in train} == set("01234")
        and set(test) == set("56789")
    )


def test_turned_classes_are_the_pictures_turned(generator):
    classes = ImageClasses(
        pictures=torch.randint(256, (5, 1, 4, 4), dtype=torch.uint8, generator=generator),
        counts=torch.tensor([2, 3]),
        names=("a", "b"),
    )
    turned = classes.with_rotations()
    assert turned.counts.tolist() == [2, 3] * 4 and len(turned.names) == len(set(turned.names)) == 8
    third = turned.choose([5])  # b turned by 180°
    assert torch.equal(third.pictures, classes.pictures[2:].flip(-1, -2)) and third.names == (
        "b turned 180°",
    )


def test_choosing_classes_takes_their_pictures_along():
    train = uneven().classes("train")
    chosen = train.choose([4, 1])
    assert chosen.names == ("class 4", "class 1") and chosen.counts.tolist() == [8, 5]
    assert chosen.pictures[:, 0, 0].tolist() == [[4, i] for i in range(8)] + [
        [1, i] for i in range(5)
    ]


def test_a_picture_twice_as_large_becomes_the_average_of_its_pixels():
    # Antialiased bilinear halving weighs 4 pixels in each direction by (1, 3, 3, 1)/8; constant
    # pictures stay as they are.
    assert resized(torch.full((1, 1, 6, 6), 77, dtype=torch.uint8), 3).unique().tolist() == [77]
    column = torch.tensor([0, 80, 80, 160, 160, 240], dtype=torch.uint8)
    small = resized(column.reshape(1, 1, 6, 1).expand(1, 1, 6, 6).contiguous(), 3)
    assert small[0, 0, 1].tolist() == [(80 + 3 * 80 + 3 * 160 + 160) // 8] * 3


def test_sinusoids_are_what_the_paper_says(generator):
    source = Sinusoid()
    waves = source.waves(5000, generator)
    assert 0.1 <= waves.amplitude.min() < 0.15 and 4.95 < waves.amplitude.max() <= 5.0
    assert 0.0 <= waves.phase.min() < 0.05 and math.pi - 0.05 < waves.phase.max() <= math.pi
    points = source.points(waves, TaskSize(ways=1, shots=5, queries=7), generator)
    x, y = points.query.x[11, 3, 0].item(), points.query.y[11, 3, 0].item()
    assert -5 <= points.support.x.min() < -4.9 and 4.9 < points.support.x.max() <= 5
    assert y == pytest.approx(
        waves.amplitude[11].item() * math.sin(x - waves.phase[11].item()), abs=1e-5
    )  # float32


@pytest.mark.parametrize(
    ("source", "size", "message"),
    [
        (
            "uneven",
            TaskSize(ways=7, shots=1, queries=1),
            "ways=7: the train split of uneven has only 6 classes",
        ),
        (
            "uneven",
            TaskSize(ways=3, shots=2, queries=4),
            "shots=2 and queries=4 need 6 .* class 1 of uneven has only 5",
        ),
        ("uneven", TaskSize(ways=3, shots=0, queries=4), "shots=0"),
        ("uneven", TaskSize(ways=3, shots=2, queries=0), "queries=0"),
        ("sinusoid", TaskSize(ways=5, shots=1, queries=4), "ways=5: the sinusoid is a regression"),
        ("sinusoid", TaskSize(ways=1, shots=1, queries=0), "queries=0"),
        (
            "logistic",
            TaskSize(ways=5, shots=1, queries=4),
            "ways=5: logistic tasks have two classes",
        ),
    ],
)
def test_more_than_there_is_to_draw_is_an_error(source, size, message, generator):
    with pytest.raises(ValueError, match=message):
        SOURCES[source][0].sample(2, size, generator)


def test_a_split_that_does_not_exist_is_named(generator):
    source, size = SOURCES["digits"]
    with pytest.raises(ValueError, match="digits has no validation split; it has train, test"):
        source.sample(2, size, generator, "validation")
