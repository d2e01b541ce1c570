"""Makes the objects of a few-shot run from a composed config, and brings them back from a
checkpoint."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from envs.sim.process import tune_memory
from metarl.cli import build, checkpoints, origins
from metarl.cli.own_code import own_faults
from metarl.cli.strangers import blamed_on, check_words, field
from metarl.cli.words import command_line
from metarl.errors import SettingError, UserError
from metarl.fewshot import deferred
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.checks import check_draws, check_moved, check_spec
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import FewShotLearner, Needs, Split, Streams, TaskSize, TaskSource
from metarl.report.fewshot import check_counts
from metarl.run.seeding import Generators
from metarl.run.shown import Shown
from metarl.struct import replace


def source(config: DictConfig, device: torch.device | str = "cpu") -> TaskSource:
    """Makes the source of tasks that the config's group `dataset` names; its pictures lie on the
    device."""
    tune_memory()
    with own_faults(config.dataset._target_):
        made: TaskSource = build.maker(config.dataset)()
    check_spec(made)
    moved = made.to(device)
    check_moved(moved, made)
    return moved


def train_size(config: DictConfig) -> TaskSize:
    return TaskSize(ways=config.ways, shots=config.shots, queries=config.queries)


def test_size(config: DictConfig) -> TaskSize:
    """The size of the tasks that are evaluated: as in training where the config says null."""
    sizes = {key: config.evaluation[key] for key in ("ways", "shots", "queries")}
    return TaskSize(
        **{key: config[key] if value is None else value for key, value in sizes.items()}
    )


def check_tasks(config: DictConfig, tasks: TaskSource) -> None:
    """Draws a task as the evaluation will, so that no run ends with an error.

    Raises: UserError for numbers that no evaluation can have; ValueError if a split is missing or
    too small.
    """
    settings = config.evaluation
    if config.checkpoint_every % config.log_every:
        raise UserError(
            f"log_every={config.log_every}: expected a divisor of "
            f"checkpoint_every={config.checkpoint_every}"
        )
    check_counts(settings.num_tasks, settings.num_updates)
    if settings.split not in tasks.spec.splits:
        raise UserError(
            f"evaluation.split={settings.split}: {tasks.spec.name} has no {settings.split} split; "
            f"it has {', '.join(tasks.spec.splits)}"
        )
    try_draw(tasks, test_size(config), Generators(settings.seed)("evaluation"), settings.split)


def try_draw(tasks: TaskSource, size: TaskSize, generator: torch.Generator, split: Split) -> None:
    """Draws a task, and of a user's own source looks at what comes."""
    if type(tasks).__module__.startswith("metarl."):
        tasks.sample(1, size, generator, split)
    else:
        check_draws(tasks, size, split)


def check_needs(config: DictConfig, tasks: TaskSource, needs: Needs) -> None:
    """Draws tasks as a learner will, so that no run begins or ends with an error.

    Raises: ValueError if a split is missing or too small.
    """
    generator = Generators(config.evaluation.seed)("evaluation")
    if not isinstance(needs, Needs):
        raise UserError(
            f"the learner's needs() returned a {type(needs).__name__}; expected "
            "Needs(training=<the TaskSize that it trains on>)"
        )
    try:
        try_draw(tasks, needs.training, generator, "train")
        if needs.sequences is not None:
            try_draw(tasks, needs.sequences, generator, config.evaluation.split)
    except SettingError as error:
        own = [key for key in needs.set_by if key in config.learner]
        if needs.training == train_size(config) or not own:
            raise
        sizes = ", ".join(f"learner.{key}={config.learner[key]}" for key in own)
        raise UserError(f"{error}; this learner trains with {sizes}") from error


def learner(
    config: DictConfig, tasks: TaskSource, generators: Generators, on: torch.device
) -> FewShotLearner:
    """The meta-learner of the config's groups `learner` and `backbone`, untrained; all its tensors
    on the device `on`.

    Raises: UserError if the evaluation has other ways than the training, and the learner can only
    answer for those.
    """
    streams = Streams(init=generators("init"), tasks=generators("tasks"), noise=generators("noise"))
    with own_faults(config.backbone._target_):
        embed = build.maker(config.backbone)(tasks.spec.input_shape, generator=streams.init)
    size = replace(train_size(config), ways=test_size(config).ways)
    setting = Setting(
        source=tasks, size=size, embed=embed, streams=streams, device=on, train_ways=config.ways
    )
    with own_faults(config.learner._target_):
        made: FewShotLearner = build.maker(config.learner)(setting=setting)
    if size.ways != config.ways and not made.needs().any_ways:
        raise UserError(
            f"evaluation.ways={config.evaluation.ways}: this learner can only answer for the "
            f"ways={config.ways} of its training"
        )
    return made


def shown(tasks: TaskSource) -> Shown:
    measure = OBJECTIVES[tasks.spec.kind].measure_name
    return Shown(quantity=measure, digits=3, count="tasks", unit="tasks")


def learner_name(resume_from: Mapping[str, Any] | None, choices: Mapping[str, Any]) -> str:
    """Returns the name of the chosen config in the group `learner`. A run that goes on wasn't told
    it again; its checkpoint has it."""
    name: str = (resume_from or {}).get("learner_name") or choices["learner"]
    return name


def provenance(config: DictConfig, tasks: TaskSource, name: str) -> dict[str, Any]:
    """What every checkpoint carries: the problem, the learner's name, the settings, the code and
    the library versions."""
    problem = {"dataset": tasks.spec.name, "spec_hash": tasks.spec.spec_hash}
    return {**problem, "learner_name": name, **origins.origin(config)}


def load(location: str, found: checkpoints.Loaded | None = None) -> checkpoints.Loaded:
    """The newest whole checkpoint of a few-shot run folder, or one checkpoint file.

    Args: found: what `checkpoints.read` gave, where that was called.
    Raises: UserError if there is none, it is damaged, not of few-shot learning, or its dataset is
    defined otherwise now.
    """
    loaded = found or checkpoints.read(location)
    if "dataset" not in loaded.content:
        raise UserError(
            f"the checkpoint {loaded.path} isn't of few-shot learning: "
            f"{command_line('train', resume=location)}"
        )
    tasks, built, generators = _untrained(loaded.config, loaded.path, partial(source_of, loaded))
    with blamed_on(loaded.path, "content"):
        checkpoints.check_spec(
            loaded, field(loaded.content, "dataset", str, "a name"), tasks.spec.spec_hash, "dataset"
        )
        # Files of the first versions have no such name.
        check_words([loaded.content.get("learner_name", "maml")], "learner_name")
    checkpoints.say_changes(loaded)
    loaded = checkpoints.whole(loaded, built, generators)
    checkpoints.try_out(loaded, built, generators, count="tasks")
    return loaded


def source_of(loaded: checkpoints.Loaded) -> TaskSource:
    """The tasks that a checkpoint's learner was trained on. A file of the zoo says what they are,
    and they are read only if some are drawn."""
    if "data_spec" not in loaded.content:
        return source(loaded.config)
    spec = deferred.unpacked(field(loaded.content, "data_spec", dict, "what defines the tasks"))
    return deferred.DeferredTasks(spec, partial(source, loaded.config))


def trained_learner(
    loaded: checkpoints.Loaded,
    config: DictConfig,
    tasks: TaskSource,
    on: torch.device | str = "cpu",
) -> FewShotLearner:
    """The checkpoint's learner for the evaluation that `config` describes.

    Raises: UserError if it can't answer for so many ways.
    """
    built = learner(config, tasks, Generators(config.seed), torch.device(on))
    built.load_state_dict(loaded.content["learner"])
    return built


def untrained(config: DictConfig, file: Path) -> tuple[TaskSource, FewShotLearner, Generators]:
    """Makes what `checkpoints.untrained` makes, for a few-shot run."""
    return _untrained(config, file, partial(source, config))


def _untrained(
    config: DictConfig, file: Path, make_source: Callable[[], TaskSource]
) -> tuple[TaskSource, FewShotLearner, Generators]:
    with blamed_on(file, "config"):
        tasks, generators = make_source(), Generators(config.seed)
        return tasks, learner(config, tasks, generators, torch.device("cpu")), generators
