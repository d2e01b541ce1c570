"""What the spec says of a source: the same for the same, another for another, in every process."""

import functools
import itertools
import json
import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.own import attribute, own_environment
from envs.own.identity import identity
from tests.support.own_examples import Point, faster

ROOT = Path(__file__).parents[3]


def maker(speed: float) -> Any:
    def make() -> Point:
        return Point(speed)

    return make


def with_default(speed: float) -> Any:
    def make(speed: float = speed) -> Point:
        return Point(speed)

    return make


def local_class(speed: float) -> Any:
    class Fixed(Point):
        def moved(self, action: Any) -> float:
            return speed * super().moved(action)

    return Fixed


class Maker:
    """A callable object."""

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def __call__(self) -> Point:
        return Point(self.speed)

    def make(self) -> Point:
        return Point(self.speed)


class SlottedMaker:
    __slots__ = ("speed",)

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def __call__(self) -> Point:
        return Point(self.speed)


PAIRS = [
    (lambda: Point(1.0), lambda: Point(2.0)),
    (lambda: Point(), lambda: Point(1.0)),
    (maker(1.0), maker(2.0)),
    (with_default(1.0), with_default(2.0)),
    (local_class(1.0), local_class(2.0)),
    (functools.partial(Point, 1.0), functools.partial(Point, 2.0)),
    (functools.partial(Point, speed=1.0), functools.partial(Point, speed=2.0)),
    (
        functools.partial(Point, speed=np.float32(1.0)),
        functools.partial(Point, speed=np.float32(2.0)),
    ),
    (Maker(1.0), Maker(2.0)),
    (Maker(1.0).make, Maker(2.0).make),
    (SlottedMaker(1.0), SlottedMaker(2.0)),
]


def spec_hash(source: Any, **arguments: Any) -> str:
    tasks = {"goal": attribute("goal", between=(0.0, 1.0))}
    return own_environment(source, 1, tasks=tasks, horizon=5, **arguments).spec.spec_hash


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_sources_that_differ_have_other_spec_hashes(one: Any, other: Any) -> None:
    assert spec_hash(one) != spec_hash(other)
    assert spec_hash(one) == spec_hash(one)
    assert spec_hash(one) != spec_hash(Point)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1, 2]), np.array([1, 3])),
        (torch.ones(2, requires_grad=True), torch.zeros(2)),
        (np.zeros(1000), np.ones(1000)),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.int64(3), np.int64(4)),
        (torch.zeros(3), torch.ones(3)),
        ({1, 2}, {1, 3}),
        (Path("a"), Path("b")),
        (faster, maker(1.0)),
        ([np.zeros(2)], [np.ones(2)]),
        (b"a", b"b"),
        (operator.itemgetter(1), operator.itemgetter(2)),
        (itertools.chain, itertools.cycle),
        (Maker, Point),
        (1 + 2j, 1 + 3j),
        (range(3), range(4)),
        (type("Numbers", (list,), {})([1]), type("Numbers", (list,), {})([2])),
    ],
)
def test_settings_that_differ_are_told_apart(one: Any, other: Any) -> None:
    assert json.dumps(identity(one)) != json.dumps(identity(other))
    assert json.dumps(identity(one)) == json.dumps(identity(one))


def test_plain_settings_and_names_are_said_as_ever() -> None:
    settings = {"a": 1, "b": [1.5, None], "c": {"d": True}}
    assert identity(settings) == settings
    assert identity(Point) == "tests.support.own_examples.Point"
    assert identity("Hopper-v5") == "Hopper-v5"
    assert identity(Point.moved) == "tests.support.own_examples.Point.moved"


def test_what_nothing_tells_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing stable tells .* from another generator"):
        spec_hash(Point, settings={"stream": (i for i in range(3))})


def test_objects_in_a_circle_end() -> None:
    one, other = Maker(1.0), Maker(2.0)
    one.next, other.next = one, other  # type: ignore[attr-defined]
    assert identity(one) != identity(other)


def test_identity_is_the_same_in_another_process() -> None:
    told = [identity(source) for pair in PAIRS for source in pair] + [identity({"b", "a", "c"})]
    program = (
        "from tests.envs.own import test_identity as t; import json; "
        "print(json.dumps([t.identity(source) for pair in t.PAIRS for source in pair] + "
        "[t.identity({'b', 'a', 'c'})]))"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert json.loads(done.stdout) == told


def test_functions_of_one_name_that_do_different_things_are_told_apart() -> None:
    def made(kind: bool) -> Any:
        if kind:

            def build() -> Any:
                return Point()

        else:

            def build() -> Any:
                return Maker()

        return build

    assert identity(made(True)) != identity(made(False))
    assert identity(made(True)) == identity(made(True))
