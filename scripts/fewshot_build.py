"""From the composed config of a few-shot run to its objects, and back from a checkpoint."""

from typing import Any

import torch
from omegaconf import DictConfig

from metarl._scripts import build
from metarl.errors import UserError
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Streams, TaskSize, TaskSource
from metarl.run.logging import Shown
from metarl.run.seeding import Generators
from metarl.types import MetaLearner


def source(config: DictConfig, device: torch.device | str = "cpu") -> TaskSource:
    """Where the tasks of the config's group `dataset` come from; pictures lie on the device."""
    made: TaskSource = build.maker(config.dataset)()
    return made.to(device)


def train_size(config: DictConfig) -> TaskSize:
    return TaskSize(ways=config.ways, shots=config.shots, queries=config.queries)


def test_size(config: DictConfig) -> TaskSize:
    """The size of the tasks that are evaluated: as in training where the config says null."""
    sizes = {key: config.evaluation[key] for key in ("ways", "shots", "queries")}
    return TaskSize(**{key: config[key] if value is None else value for key, value in sizes.items()})


def learner(config: DictConfig, tasks: TaskSource, generators: Generators, on: torch.device) -> MetaLearner:
    """The meta-learner of the config's groups `learner` and `backbone`, untrained; all its tensors on the device `on`."""
    streams = Streams(init=generators("init"), tasks=generators("tasks"), noise=generators("noise"))
    embed = build.maker(config.backbone)(tasks.spec.input_shape, generator=streams.init)
    return build.maker(config.learner)(source=tasks, size=train_size(config), embed=embed, streams=streams, device=on)


def shown(tasks: TaskSource) -> Shown:
    measure = OBJECTIVES[tasks.spec.kind].measure_name
    return Shown(quantity=measure, digits=3, count="tasks", unit="tasks")


def provenance(config: DictConfig, tasks: TaskSource) -> dict[str, Any]:
    """What every checkpoint carries: the problem, the settings, the code and the library versions."""
    return {"dataset": tasks.spec.name, "spec_hash": tasks.spec.spec_hash, **build.origin(config)}


def load(location: str) -> build.Loaded:
    """The newest whole checkpoint of a few-shot run folder, or one checkpoint file.

    Raises: UserError if there is none, it is damaged, not of few-shot learning, or its dataset is defined otherwise now.
    """
    loaded = build.read(location)
    if "dataset" not in loaded.content:
        raise UserError(
            f"the checkpoint {loaded.path} isn't of few-shot learning: python scripts/train.py resume={location}"
        )
    build.check_spec(loaded, loaded.content["dataset"], source(loaded.config).spec.spec_hash, "dataset")
    return loaded
