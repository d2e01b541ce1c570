"""A trained few-shot learner: evaluated as the command does, or fitted to arrays of one's own."""

import numbers
import warnings
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from metarl.api.given import floats, whole
from metarl.api.results import Evaluation
from metarl.cli import checkpoints, fewshot_build, fewshot_report
from metarl.cli.configs import merged
from metarl.cli.session import as_words, session, texts
from metarl.errors import UserError
from metarl.fewshot.types import Examples, FewShotAdapter, FewShotLearner
from metarl.surroundings import ordinary_tensors, undisturbed
from metarl.threads import on_one_thread

CPU = torch.device("cpu")

_SLACK = 0.05  # of pictures beyond 0 to 1, for instance from resizing


class FewShotAgent:
    """What a few-shot training has learned; `metarl.load` makes it.

    Args:
      loaded: the checkpoint; checkpoint: the word for it on the command line; config_dir: configs
      of the user's own.
    """

    def __init__(
        self, loaded: checkpoints.Loaded, checkpoint: str, config_dir: str | Path | None = None
    ) -> None:
        self._loaded, self._checkpoint, self._config_dir = loaded, checkpoint, config_dir
        self._source = fewshot_build.source_of(loaded)
        self.spec = self._source.spec
        self.name = str(loaded.content.get("learner_name", "maml"))

    def evaluate(self, *words: str, quiet: bool = False, **settings: Any) -> Evaluation:
        """Answers held-out tasks, with the numbers that its training would end with.

            agent.evaluate(num_tasks=100).table()

        Args: words, settings: those of `evaluation` in configs/fewshot.yaml. quiet: nothing is printed.
        """
        given = [
            *(f"evaluation.{word}" for word in texts(words)),
            *as_words({"evaluation": settings}),
        ]
        with session("fewshot", given, self._config_dir, quiet=quiet) as config:
            asked = {name: config.evaluation[name] for name in _names(given)}
            tested = merged(self._loaded.config, {"evaluation": asked})
            fewshot_build.check_tasks(tested, self._source)
            learner = fewshot_build.trained_learner(self._loaded, tested, self._source)
            report = fewshot_report.evaluated(tested, learner, self._source, CPU)
        return Evaluation(report | {"learner": self.name})

    @undisturbed()
    @on_one_thread  # one task's steps are small: shared out they wait for each other
    def fit(
        self,
        x: Any,
        y: Any,
        *,
        updates: SupportsIndex | None = None,
        transductive: bool | None = None,
    ) -> "Predictor":
        """Learns a task from a few examples.

            predictor = agent.fit(x, y)
            predictor(more_x)

        Args:
          x: [B, ...] inputs as those of its training, pictures as numbers from 0 to 1 (Omniglot's: ink 1
            on paper 0, so that black on white wants 1 - x).
          y: [B] labels of any kind, or values [B] or [B, O]. Learners with an output for each
            class of their training tell as many apart, or fewer.
          updates: None for as many as the learner is meant for.
          transductive: whether an answer may depend on the questions that are asked with it, as in
            the papers on gradient-based learners with batch norm: better for many questions at
            once, useless for one. False takes the statistics of the examples; None is as in
            training.
        Raises: UserError if they don't fit the learner.
        """
        inputs = self._inputs(x)
        # As in every task of the training, the order tells nothing: users often sort by class.
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
        number = None if updates is None else whole(updates, "updates")
        answers, classes = self._answers(y, len(inputs))
        asked = {} if transductive is None else {"learner": self._asked(transductive)}
        adapter = self._trained(asked, classes).adapter()
        state = adapter.begin(1)
        examples = Examples(x=inputs[order][None], y=answers[order][None])
        for _ in range(adapter.num_updates if number is None else number):
            state = adapter.update(state, examples)
        return Predictor(self, adapter, state, classes, np.ndim(y))

    def _trained(self, asked: dict[str, Any], classes: np.ndarray | None) -> FewShotLearner:
        """The learner with the settings that are asked for, for so many classes. Raises: UserError
        if it can't tell them apart."""
        ways = self._loaded.config.ways
        learner = self._of_ways(ways, asked)
        if classes is None or len(classes) == ways:
            return learner
        if learner.needs().any_ways:
            return self._of_ways(len(classes), asked)
        if len(classes) > ways:
            raise UserError(
                f"y has {len(classes)} labels; {self.name} was trained to tell {ways} apart, "
                "expected as many or fewer"
            )
        return learner

    def _of_ways(self, ways: int, asked: dict[str, Any]) -> FewShotLearner:
        tested = merged(self._loaded.config, {"evaluation": {"ways": ways}}, asked)
        return fewshot_build.trained_learner(self._loaded, tested, self._source)

    def _asked(self, transductive: object) -> dict[str, bool]:
        """The setting of the learner. Raises: UserError for no bool, or True of a learner without
        such a setting."""
        if not isinstance(transductive, bool):
            raise UserError(f"transductive is {transductive!r}; expected True, False or None")
        has_it = "transductive" in self._loaded.config.learner
        if transductive and not has_it:
            raise UserError(
                f"transductive=True: {self.name} answers each question by itself; expected False "
                "or None"
            )
        return {"transductive": transductive} if has_it else {}

    def _inputs(self, x: Any) -> Tensor:
        """[B, ...]. Raises: UserError for another shape, what isn't finite, or pictures beyond 0 to
        1."""
        found = torch.as_tensor(floats(x, "x"))
        shape = self.spec.input_shape
        if found.ndim == 1 and shape == (1,):
            found = found[:, None]
        if found.ndim == 0 or len(found) == 0 or tuple(found.shape[1:]) != tuple(shape):
            one_number = "[B] or " if shape == (1,) else ""
            raise UserError(
                f"x has the shape {np.shape(x)}; expected {one_number}"
                f"[B, {', '.join(map(str, shape))}], B examples"
            )
        if len(shape) == 3:  # pictures
            low, high = found.min().item(), found.max().item()
            if not -_SLACK <= low <= high <= 1 + _SLACK:
                raise UserError(
                    f"x holds numbers from {low:g} to {high:g}; expected pictures as numbers from 0 "
                    "to 1"
                )
        return found

    def _answers(self, y: Any, num: int) -> tuple[Tensor, np.ndarray | None]:
        """The answers as the learner takes them, and the classes that labels stand for."""
        is_regression = self.spec.kind == "regression"
        given = floats(y, "y") if is_regression else _labels(y)
        if given.ndim == 0 or len(given) != num:
            raise UserError(f"y has the shape {given.shape}; expected one answer for each of {num}")
        if is_regression:
            values = torch.as_tensor(given).reshape(num, -1)
            if values.shape[1] != self.spec.num_values:
                raise UserError(
                    f"y has the shape {given.shape}; expected {self.spec.num_values} "
                    f"number{'s' * (self.spec.num_values > 1)} for each of {num}"
                )
            return values, None
        if given.ndim != 1:
            raise UserError(f"y has the shape {given.shape}; expected [{num}] labels")
        try:
            classes, labels = np.unique(given, return_inverse=True)
        except TypeError as error:
            raise UserError(f"y is {y!r:.60}; expected labels of one type") from error
        if len(classes) < 2:
            raise UserError(f"y has the only label {str(classes[0])!r}; expected two or more")
        return torch.as_tensor(labels, dtype=torch.int64), classes

    def __repr__(self) -> str:
        return f"FewShotAgent({self._checkpoint!r}, dataset={self.spec.name!r})"


class Predictor:
    """What has been learned from a few examples: `predictor(x)` gives the labels [B] or the values
    that it thinks right.

    Attributes: classes: what labels stand for, None of values; transductive: whether an answer
    depends on the questions that are asked with it, see `FewShotAgent.fit`.
    """

    def __init__(
        self,
        agent: FewShotAgent,
        adapter: FewShotAdapter[Any],
        state: Any,
        classes: np.ndarray | None,
        num_dims: int,
    ) -> None:
        self._agent, self._adapter, self._state = agent, adapter, state
        self.classes, self._num_dims = classes, num_dims
        self.transductive = adapter.transductive

    def __repr__(self) -> str:
        what = "values" if self.classes is None else f"classes {self.classes.tolist()}"
        return f"Predictor({what} of {self._agent!r})"

    def __call__(self, x: Any) -> np.ndarray:
        answers = self._answers(x)
        if self.classes is not None:
            return np.asarray(self.classes[answers.argmax(-1).numpy()])
        return np.asarray((answers[:, 0] if self._num_dims == 1 else answers).numpy())

    def probabilities(self, x: Any) -> np.ndarray:
        """[B, W] of each of `classes`. Raises: UserError where values are predicted."""
        if self.classes is None:
            raise UserError("this learner predicts values, which have no probabilities")
        return np.asarray(self._answers(x).softmax(-1).numpy())

    def _answers(self, x: Any) -> Tensor:
        """Raises: UserError if x doesn't fit, or the answers aren't finite."""
        inputs = self._agent._inputs(x)
        if self.transductive and len(inputs) == 1:
            warnings.warn(
                "one question alone, of a learner whose answers depend on the questions asked "
                "together; expected several, or fit(..., transductive=False)",
                stacklevel=3,
            )
        with ordinary_tensors(), torch.no_grad():
            answers = self._adapter.predict(self._state, inputs[None])[0]
        if self.classes is not None:
            answers = answers[:, : len(self.classes)]  # Of more outputs the rest stands for none.
        if not answers.isfinite().all():
            raise UserError(
                "the learner's answers aren't finite numbers: what it was given lies too far from "
                "what it was trained on; expected x and y of that size"
            )
        return answers


def _labels(y: Any) -> np.ndarray:
    """[B] labels of any kind. Raises: UserError for rows of several lengths, for NaN and None, and
    for labels of several kinds, which numpy would take for one another: 1 and "1"."""
    try:
        found = np.asarray(y)
        entries = np.asarray(y, dtype=object).ravel().tolist()
    except ValueError as error:
        raise UserError(f"y is {y!r:.60}; expected one label for each example") from error
    if any(entry is None or entry != entry for entry in entries):
        raise UserError(f"y is {y!r:.60}; expected a label for each example, no None or NaN")
    if len({_kind(entry) for entry in entries}) > 1:
        raise UserError(f"y is {y!r:.60}; expected labels of one type")
    return found


def _kind(label: Any) -> type:
    """Whole numbers and fractions are of one kind, and numpy's labels of Python's."""
    if isinstance(label, bool | np.bool_):
        return bool
    if isinstance(label, str):
        return str
    return float if isinstance(label, numbers.Real) else type(label)


def _names(words: list[str]) -> list[str]:
    return [word.partition("=")[0].removeprefix("evaluation.") for word in words]
