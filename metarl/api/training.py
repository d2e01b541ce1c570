"""Trains as the commands train and fewshot do: the same words, numbers and run folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.api.agent import Agent
from metarl.api.loading import load
from metarl.api.results import Evaluation, Videos
from metarl.cli import several
from metarl.cli.commands import fewshot as fewshot_command
from metarl.cli.commands import train as train_command
from metarl.cli.session import as_words, session, texts
from metarl.errors import UserError
from metarl.report.finished import parsed
from metarl.run.checkpoint import list_checkpoints
from metarl.run.rows import read_rows
from metarl.run.train import OnRow


def train(
    env: str | None = None,
    algo: str | None = None,
    /,
    *words: str,
    config_dir: str | Path | None = None,
    on_iteration: OnRow | None = None,
    quiet: bool = False,
    **settings: Any,
) -> "Run":
    """Meta-trains a learner and evaluates it on held-out tasks, as `metarl-train` does.

        metarl.train("half_cheetah_vel", "maml_ppo", iterations=50, seed=0)
        metarl.train("bandit", "rl2_ppo", model="lstm", algo={"meta_batch_size": 20})
        metarl.train(experiment="point_navigation_2d_maml")
        metarl.train(resume="runs/bandit/rl2_ppo/2026-01-31_12-00-00-seed0", iterations=200)

    Args:
      env, algo: as in `env=... algo=...`; None: the default.
      words: more words as they are typed, `"algo.inner_lr=0.1"`.
      settings: the same as Python values; a dict holds the keys below its name.
      config_dir: a folder with configs of your own.
      on_iteration: is called with each row of metrics.jsonl as a dict, with eval_every also with
        what an evaluation on the way has found, as `held_out/score` and the like. If it returns True, the
        run is saved and ends, `interrupted`; if it raises, it is saved, and can be gone on with.
      quiet: nothing is printed; run.log in the run's folder has it.
    Returns: the run. Ctrl-C, or the notebook's stop, ends after the present iteration and saves; the
    run is then `interrupted`.
    Raises: UserError or SettingError, in a line, for a mistake.
    """
    chosen = {"env": env, "algo": algo}
    with session("train", _all_words(chosen, words, settings), config_dir, quiet=quiet) as config:
        if several.is_asked_for(config):
            asked = (
                f"num_seeds={config.num_seeds}"
                if config.resume is None
                else f"resume={config.resume}, a folder of several seeds"
            )
            raise UserError(
                f"{asked}: from Python a run has one seed; expected one, or the command metarl-train"
            )
        done = train_command.trained(config, on_iteration)
    return Run(done.folder, interrupted=done.interrupted, config_dir=config_dir)


def train_fewshot(
    dataset: str | None = None,
    learner: str | None = None,
    /,
    *words: str,
    config_dir: str | Path | None = None,
    on_iteration: OnRow | None = None,
    quiet: bool = False,
    **settings: Any,
) -> "Run":
    """Meta-trains a few-shot learner and evaluates it, as `metarl-fewshot` does.

        metarl.train_fewshot("sinusoid", "maml", iterations=500)

    Args, Returns and Raises are as those of `train`.
    """
    chosen = {"dataset": dataset, "learner": learner}
    with session("fewshot", _all_words(chosen, words, settings), config_dir, quiet=quiet) as config:
        done = fewshot_command.trained(config, on_iteration)
    return Run(done.folder, interrupted=done.interrupted, config_dir=config_dir)


class Run:
    """A training that is over: its folder, its numbers, its agent.

    Args: folder: the run folder, whose files the README describes.
    """

    def __init__(
        self, folder: str | Path, *, interrupted: bool = False, config_dir: str | Path | None = None
    ) -> None:
        self.folder = Path(folder).absolute()  # Programs change their folder.
        self.interrupted, self._config_dir = interrupted, config_dir
        self._agent: Any = None
        self._agent_is_of: list[tuple[str, int]] = []

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A dict for each row of metrics.jsonl: an iteration, or the mean of several. Raises:
        UserError if the folder isn't there any more."""
        _check_is_there(self.folder)
        return read_rows(self.folder / "metrics.jsonl")

    @property
    def evaluation(self) -> Evaluation:
        """What the training ended with. Raises: UserError if it was stopped before."""
        return evaluation_in(self.folder)

    @property
    def agent(self) -> Any:
        """The trained `Agent` or `FewShotAgent`, from the newest checkpoint; another one after the
        run went on."""
        _check_is_there(self.folder)
        files = list_checkpoints(self.folder / "checkpoints")
        present = [(file.name, file.stat().st_mtime_ns) for file in files]
        if self._agent is None or present != self._agent_is_of:
            self._agent = load(self.folder, config_dir=self._config_dir)
            self._agent_is_of = present
        return self._agent

    def evaluate(self, *words: str, **settings: Any) -> Evaluation:
        """See `Agent.evaluate` and `FewShotAgent.evaluate`."""
        found: Evaluation = self.agent.evaluate(*words, **settings)
        return found

    def render(self, *words: str, **settings: Any) -> Videos:
        """See `Agent.render`. Raises: UserError for few-shot learning, which has no worlds to
        film."""
        if not isinstance(self.agent, Agent):
            raise UserError(f"{self.folder} is of few-shot learning: there is no world to film")
        return self.agent.render(*words, **settings)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}){', interrupted' if self.interrupted else ''}"


def evaluation_in(folder: Path) -> Evaluation:
    """The evaluation in a run folder. Raises: UserError if there is none, or it is damaged."""
    _check_is_there(folder)
    file = folder / "evaluation.json"
    if not file.exists():
        raise UserError(f"{folder} has no evaluation.json: the training was stopped")
    return Evaluation(parsed(file, json.loads))


def _check_is_there(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder} isn't there; expected the folder of a run")


def _all_words(
    chosen: Mapping[str, Any], words: tuple[str, ...], settings: Mapping[str, Any]
) -> list[str]:
    groups = {name: choice for name, choice in chosen.items() if choice is not None}
    for name, choice in groups.items():
        if not isinstance(choice, str):
            raise UserError(f"{name}={choice!r}: expected one name")
    return [*as_words(groups), *texts(words), *as_words(settings)]
