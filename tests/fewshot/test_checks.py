"""A source of tasks of a user's own is tried out, and told what isn't as it must be."""

import re
from collections.abc import Callable
from dataclasses import replace as changed
from typing import Any

import pytest
import torch

from metarl.errors import SettingError
from metarl.fewshot.checks import check_draws, check_moved, check_spec
from metarl.fewshot.digits import digits
from metarl.fewshot.logistic import Logistic
from metarl.fewshot.sinusoid import Sinusoid
from metarl.fewshot.types import DataSpec, Episodes, Examples, TaskSize

CLASSES = TaskSize(ways=3, shots=2, queries=4)
POINTS = TaskSize(ways=1, shots=5, queries=7)


class Own:
    """Two values of three inputs, or three classes, with one thing changed."""

    def __init__(self, kind: str = "regression", change: Callable[..., Any] = lambda e: e) -> None:
        self.spec = DataSpec(
            name="own",
            kind=kind,
            input_shape=(3,),
            num_values=2 * (kind == "regression"),
            splits=("train", "test"),
            definition={},
        )
        self.change = change

    def to(self, device: Any) -> "Own":
        return self

    def sample(self, num: int, size: TaskSize, generator: Any, split: str = "train") -> Any:
        def part(count: int) -> Examples:
            total = size.ways * count
            x = torch.randn(num, total, 3, generator=generator)
            labels = torch.arange(size.ways).repeat(count).expand(num, -1)
            is_regression = self.spec.kind == "regression"
            y = torch.randn(num, total, 2, generator=generator) if is_regression else labels
            return Examples(x=x, y=y)

        return self.change(Episodes(support=part(size.shots), query=part(size.queries)))


def query(**parts: Callable[[Any], Any]) -> Callable[[Episodes], Episodes]:
    def change(episodes: Episodes) -> Episodes:
        new = {name: of(getattr(episodes.query, name)) for name, of in parts.items()}
        return changed(episodes, query=changed(episodes.query, **new))

    return change


def of_numpy(episodes: Episodes) -> Episodes:
    # Where types aren't checked nothing else says it.
    object.__setattr__(episodes.query, "x", episodes.query.x.numpy())
    return episodes


def test_sources_that_are_right_pass() -> None:
    for source, size in (
        (Own(), POINTS),
        (Own("classification"), CLASSES),
        (digits(), CLASSES),
        (Sinusoid(), POINTS),
        (Logistic(), TaskSize(ways=2, shots=3, queries=4)),
    ):
        check_spec(source)
        check_moved(source.to("cpu"), source)
        check_draws(source, size, "train")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"kind": "regresion"}, "own: spec.kind is 'regresion'; expected classification or regr"),
        ({"input_shape": 3}, "own: spec.input_shape is 3; expected a tuple of positive integers"),
        (
            {"num_values": 0},
            "own: spec.num_values is 0; expected the outputs of a regression, or 0",
        ),
        ({"definition": {"a": torch.ones(1)}}, "own: spec.definition can't be written as JSON"),
    ],
)
def test_a_spec_that_can_not_be_is_told(spec: dict[str, Any], said: str) -> None:
    source = Own()
    object.__setattr__(source.spec, *next(iter(spec.items())))
    with pytest.raises(SettingError, match=re.escape(said)):
        check_spec(source)


def test_what_is_no_source_is_told() -> None:
    with pytest.raises(SettingError, match=re.escape("object.spec is None; expected a DataSpec")):
        check_spec(object())
    with pytest.raises(SettingError, match=re.escape("Own.to returned None; expected the source")):
        check_moved(None, Own())


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("regression", lambda e: None, "own, split train: sample returned None; expected Episodes"),
        ("regression", of_numpy, "query is x a ndarray; expected Examples of tensors x and y"),
        (
            "regression",
            query(x=lambda x: x.double()),
            "query.x of 2 tasks is a tensor [2, 7, 3] of float64; expected [2, 7, 3] of float32 (7 examples",
        ),
        (
            "regression",
            query(x=lambda x: x[:, :, :2]),
            "is a tensor [2, 7, 2] of float32; expected [2, 7, 3]",
        ),
        (
            "regression",
            query(x=lambda x: x[:1]),
            "is a tensor [1, 7, 3] of float32; expected [2, 7, 3]",
        ),
        (
            "regression",
            query(y=lambda y: y[..., 0]),
            "query.y of 2 tasks is a tensor [2, 7] of float32; exp",
        ),
        (
            "regression",
            query(y=lambda y: y[..., :1]),
            "is a tensor [2, 7, 1] of float32; expected [2, 7, 2]",
        ),
        ("regression", query(y=lambda y: y * torch.nan), "query.y holds NaN or infinity; expected"),
        (
            "regression",
            query(x=lambda x: x.requires_grad_()),
            "query.x requires a gradient; expect",
        ),
        (
            "regression",
            query(x=torch.rand_like),
            "sample draws other tasks from an equal generator",
        ),
        (
            "classification",
            query(y=lambda y: y.int()),
            "is a tensor [2, 12] of int32; expected [2, 12] of in",
        ),
        ("classification", query(y=lambda y: y + 1), "y has labels from 1 to 3; expected 0 to 2"),
        ("classification", query(y=lambda y: y - 1), "y has labels from -1 to 1; expected 0 to 2"),
        (
            "classification",
            query(y=lambda y: y.clamp(max=1)),
            "query.y of a task has 4, 8, 0 examples of its classes; expected 4 of each",
        ),
    ],
)
def test_draws_that_are_not_as_the_spec_says_are_told(
    kind: str, change: Callable[..., Any], said: str
) -> None:
    size = POINTS if kind == "regression" else CLASSES
    with pytest.raises(SettingError, match=re.escape(said)):
        check_draws(Own(kind, change), size, "train")
