"""A few-shot learner on arrays of one's own answers as it does on the tasks of its data set."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import metarl
from metarl.cli import fewshot_build
from metarl.fewshot.evaluate import predictions
from metarl.fewshot.types import TaskSize

SMALL: dict[str, Any] = {"iterations": 1, "device": "cpu"}
SMALL["evaluation"] = {"num_tasks": 2, "pictures": False}
SMALL["adaptation"] = {"meta_batch_size": 2}


@pytest.fixture(scope="module")
def sinusoid(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs") / "sinusoid"
    return metarl.train_fewshot("sinusoid", "maml", **SMALL, run_dir=folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return metarl.train_fewshot("digits", "protonet", **SMALL, run_dir=folder).agent


def test_a_fit_answers_as_the_evaluation_would(sinusoid: Any) -> None:
    agent = sinusoid.agent
    size = TaskSize(ways=1, shots=5, queries=4)
    episodes = agent._source.sample(1, size, torch.Generator().manual_seed(0), "test")
    learner = fewshot_build.trained_learner(agent._loaded, agent._loaded.config, agent._source)
    *_, expected = predictions(learner.adapter(), episodes, 2)
    x, y = episodes.support.x[0].numpy(), episodes.support.y[0].numpy()
    predictor = agent.fit(x[:, 0], y[:, 0], updates=2)
    answers = predictor(episodes.query.x[0].numpy())
    np.testing.assert_allclose(answers, expected[0, :, 0], rtol=1e-6)
    assert agent.fit(x, y, updates=2)(x).shape == (5, 1)


def test_the_evaluation_is_that_of_the_training(sinusoid: Any) -> None:
    found = sinusoid.evaluate(num_tasks=2)
    assert found.report["updates"] == sinusoid.evaluation.report["updates"]
    assert found.returns.shape == (2,) and "mse after" in found.table()
    with pytest.raises(metarl.UserError, match="there is no world to film"):
        sinusoid.render()


def test_labels_are_those_of_the_user(digits: Any) -> None:
    ways = digits._loaded.config.ways
    size = TaskSize(ways=ways, shots=2, queries=3)
    episodes = digits._source.sample(1, size, torch.Generator().manual_seed(0), "test")
    names = np.array([f"class {chr(97 + way)}" for way in range(ways)])
    predictor = digits.fit(episodes.support.x[0], names[episodes.support.y[0]])
    answers = predictor(episodes.query.x[0])
    assert set(answers) <= set(names)
    mixed = [names[0], *map(str, names[1:])]  # strings of numpy and of Python
    assert set(digits.fit(episodes.support.x[0][:ways], mixed).classes) == set(names)
    chances = predictor.probabilities(episodes.query.x[0])
    np.testing.assert_array_equal(answers, predictor.classes[chances.argmax(1)])
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    # An embedding of digits, even barely trained, tells most of them apart; 1/ways is a guess.
    assert (answers == names[episodes.query.y[0]]).mean() > 1.2 / ways


@pytest.mark.parametrize("learner", ["maml", "reptile", "mann", "cnp", "meta_lstm"])
def test_a_learner_of_so_many_outputs_tells_fewer_classes_apart(
    tmp_path: Path, learner: str
) -> None:
    small = {name: value for name, value in SMALL.items() if name != "adaptation"}
    words = ["joint_decoder"] if learner == "cnp" else []
    settings = small | ({"learner": dict.fromkeys(words, True)} if words else {})
    agent = metarl.train_fewshot(
        "digits", learner, ways=3, **settings, run_dir=tmp_path / "r"
    ).agent
    x = torch.rand(8, *agent.spec.input_shape).numpy()
    predictor = agent.fit(x[:4], ["b", "a", "b", "a"])
    assert set(predictor(x)) <= {"a", "b"}
    chances = predictor.probabilities(x)
    assert chances.shape == (8, 2)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    assert agent.fit(x[:3], [2, 1, 0]).probabilities(x).shape == (8, 3)
    with pytest.raises(metarl.UserError, match=f"y has 4 labels; {learner} was trained to tell 3"):
        agent.fit(x[:4], [0, 1, 2, 3])


def test_questions_that_come_one_by_one_have_answers_of_their_own(tmp_path: Path) -> None:
    """By the statistics of one question alone all would be answered alike."""
    agent = metarl.train_fewshot("digits", "maml", **SMALL, run_dir=tmp_path / "run").agent
    size = TaskSize(ways=agent._loaded.config.ways, shots=2, queries=3)
    episodes = agent._source.sample(1, size, torch.Generator().manual_seed(0), "test")
    asked = episodes.query.x[0]

    def alone(predictor: Any) -> np.ndarray:
        return np.concatenate(
            [predictor.probabilities(asked[k : k + 1]) for k in range(len(asked))]
        )

    as_trained = agent.fit(episodes.support.x[0], episodes.support.y[0])
    assert as_trained.transductive
    with pytest.warns(UserWarning, match="one question alone"):
        assert np.ptp(alone(as_trained), axis=0).max() < 1e-5
    by_examples = agent.fit(episodes.support.x[0], episodes.support.y[0], transductive=False)
    assert not by_examples.transductive
    np.testing.assert_allclose(alone(by_examples), by_examples.probabilities(asked), atol=1e-5)
    assert np.ptp(alone(by_examples), axis=0).max() > 1e-3
    with pytest.raises(metarl.UserError, match="transductive is 1; expected True, False or None"):
        agent._asked(1)


def test_a_learner_that_answers_each_question_by_itself_says_so(digits: Any) -> None:
    ways = digits._loaded.config.ways
    size = TaskSize(ways=ways, shots=1, queries=1)
    episodes = digits._source.sample(1, size, torch.Generator().manual_seed(0), "test")
    examples = episodes.support.x[0], episodes.support.y[0]
    assert not digits.fit(*examples, transductive=False).transductive
    with pytest.raises(metarl.UserError, match="protonet answers each question by itself"):
        digits.fit(*examples, transductive=True)


def test_the_order_of_the_examples_tells_nothing(digits: Any) -> None:
    """A learner that takes them one after the other, as Reptile its minibatches."""
    seen: list[torch.Tensor] = []

    class Spy:
        num_updates, transductive = 1, False

        def __init__(self, adapter: Any) -> None:
            self.begin = adapter.begin

        def update(self, state: Any, examples: Any) -> Any:
            seen.append(examples.y[0])
            return state

    made = fewshot_build.trained_learner

    def spied(*given: Any) -> Any:
        return SimpleNamespace(adapter=lambda: Spy(made(*given).adapter()))

    y = np.arange(5).repeat(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fewshot_build, "trained_learner", spied)
        digits.fit(np.zeros((30, *digits.spec.input_shape)), y)
    assert sorted(seen[0].tolist()) == y.tolist() != seen[0].tolist()


def test_what_does_not_fit_is_named(sinusoid: Any, digits: Any) -> None:
    agent, x = sinusoid.agent, np.zeros((3, 1))
    for mistake, message in (
        (lambda: agent.fit(np.zeros((3, 2)), [0, 0, 0]), r"x has the shape \(3, 2\); expected \[B"),
        (lambda: agent.fit(x, [0.0]), r"y has the shape \(1,\); expected one answer for each of 3"),
        (lambda: agent.fit(x, [0, np.nan, 0]), "y holds NaN"),
        (lambda: agent.fit(x, ["a", "b", "c"]), r"y is \['a', 'b', 'c'\]; expected numbers"),
        (lambda: agent.fit([[0], [1, 2]], [0, 0]), r"x is \[\[0\], \[1, 2\]\]; expected numbers"),
        (
            lambda: digits.fit(np.zeros((2, *digits.spec.input_shape)), ["a", None]),
            "no None or NaN",
        ),
        *(
            (lambda y=y: digits.fit(np.zeros((4, *digits.spec.input_shape)), y), message)
            for y, message in (
                ([0, 0, 1, np.nan], "expected a label for each example, no None or NaN"),
                ([None] * 4, "expected a label for each example, no None or NaN"),
                ([1, 1, "1", 2], "expected labels of one type"),
                ([True, False, 1, 0], "expected labels of one type"),
            )
        ),
        (
            lambda: digits.fit(np.full((2, *digits.spec.input_shape), 255, np.uint8), [0, 1]),
            "x holds numbers from 255 to 255; expected pictures as numbers from 0 to 1",
        ),
        (lambda: agent.fit(x * np.nan, [0, 0, 0]), "x holds NaN"),
        (
            lambda: agent.fit(x, [0, 1, 2], updates=-1),
            "updates=-1: expected a whole number, 0 or more",
        ),
        (lambda: agent.fit(x, [0, 1, 2]).probabilities(x), "have no probabilities"),
        (lambda: agent.evaluate(num_task=3), "num_task: .* did you mean evaluation.num_tasks"),
        (
            lambda: digits.fit(np.zeros((2, *digits.spec.input_shape)), ["a", "a"]),
            "y has the only label 'a'",
        ),
        (
            lambda: agent.fit([0.0, 1.0, 2.0], [1e30, -1e30, 1e30])([0.5]),
            "answers aren't finite numbers",
        ),
    ):
        with pytest.raises(metarl.UserError, match=message):
            mistake()


def test_a_predictor_pickles(sinusoid: Any) -> None:
    x = np.linspace(-4, 4, 5)
    predictor = sinusoid.agent.fit(x, np.sin(x))
    again = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(again(x), predictor(x))
