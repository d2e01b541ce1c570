"""What `eval_every` asks for: evaluations on held-out tasks while a run goes, in worlds and with
random streams of their own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig

from metarl.cli import build, fewshot_build
from metarl.errors import UserError
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Split, TaskSource
from metarl.report.evaluation import acting
from metarl.report.fewshot import evaluate
from metarl.report.held_out import measured_returns, measures_row, score_name
from metarl.rl.types import TaskDistribution
from metarl.run.global_streams import GlobalStreams
from metarl.run.held_out import HasState, HeldOut
from metarl.run.seeding import Generators
from metarl.struct import map_tensors
from metarl.types import Metrics

# Settings of data without validation classes that set some aside, and how many are usual
_SET_ASIDE = {"num_validation": 172, "validation_share": 0.2}


@contextmanager
def returns(config: DictConfig, device: torch.device) -> Iterator[HeldOut | None]:
    """The evaluations of a training in worlds; None if none are asked for.

    Their tasks are the held-out ones behind those of the evaluation at the end, so that no task
    both chooses the best checkpoint and judges it; where an environment lists too few for that, a line
    says so. They play as that evaluation does: its rates, its most likely actions. Each begins the
    same streams anew.
    """
    if config.eval_every is None:
        yield None
        return
    sizes, at_end = build.sizes(config), config.evaluation
    with build.one_world(config) as one:
        prior = one.prior
    tasks = choosers(config, prior)
    num_tasks = len(tasks)
    listed = num_listed(prior)
    if listed is not None and tasks.stop > listed:
        print(
            f"eval_every: {config.env.name} has {listed} held-out tasks; some that choose "
            "the best checkpoint judge it at the end, too",
            file=sys.stderr,
        )
    num_worlds = num_tasks * (at_end.episodes_per_task or sizes.episodes_per_task)
    env = build.environment(config, num_worlds)
    decay = at_end.get("inner_lr_decay")  # Checkpoints of before don't say it.
    tested = config if decay is None else build.scheduled(config, decay)
    # Another learner of the same kind gets the state: what is evaluated can't disturb the training.
    twin = build.learner(tested, env, Generators(config.seed), device)

    def measure(learner: HasState) -> Metrics:
        twin.load_state_dict(_copied(learner.state_dict()))
        with GlobalStreams(config.seed, "held out"):
            return measured_returns(
                twin.adapter(),
                env,
                build.streams(Generators(config.seed), device, "held_out/"),
                num_tasks=num_tasks,
                skip=tasks.start,
                num_updates=sizes.num_updates,
                scored_by=scored_by(config),
                acting=acting(sizes.unit, deterministic=bool(at_end.get("deterministic"))),
                device=device,
            )

    try:
        compared_by = score_name(sizes.num_updates, scored_by(config))
        settings = (
            f"{tasks} x {num_worlds // num_tasks}, {sizes.num_updates} updates, decay {decay}"
        )
        settings += ", by most likely actions" if at_end.get("deterministic") else ""
        yield HeldOut(
            every=config.eval_every, measure=measure, compared_by=compared_by, settings=settings
        )
    finally:
        env.close()


def choosers(config: DictConfig, prior: TaskDistribution) -> range:
    """The places of the tasks that choose the best checkpoint, in the list of those held out; beyond its
    end those at its beginning are meant."""
    skip = max(prior.num_test, config.evaluation.num_tasks or 0)
    return range(skip, skip + (config.eval_tasks or config.evaluation.num_tasks or prior.num_test))


def num_listed(prior: TaskDistribution) -> int | None:
    """The number of held-out tasks after which their list begins anew; None where it goes on."""
    return prior.num_test if prior.split == "none" else prior.num_held_out


def scored_by(config: DictConfig) -> str:
    """Which mean of the returns chooses the best checkpoint."""
    return str(config.get("eval_by", "iqm"))  # Checkpoints of before don't say it.


def measures(config: DictConfig, source: TaskSource, device: torch.device) -> HeldOut | None:
    """The evaluations of a few-shot training, on tasks of validation classes; where the data have
    none, on other tasks of the split that is evaluated at the end.

    Raises: UserError or ValueError if there are too few classes or examples.
    """
    if config.eval_every is None:
        return None
    if config.eval_every % config.log_every:
        raise UserError(
            f"log_every={config.log_every}: expected a divisor of eval_every={config.eval_every}"
        )
    at_end = config.evaluation
    split: Split = "validation" if "validation" in source.spec.splits else at_end.split
    if split == at_end.split:
        told = (
            f"eval_every: {source.spec.name}'s {split} classes choose the best checkpoint and judge it at "
            "the end, too"
        )
        for key, some in _SET_ASIDE.items():
            if key in config.dataset:
                told += f"; dataset.{key}={some} sets training classes aside for the choice"
        print(told, file=sys.stderr)
    size = fewshot_build.test_size(config)
    fewshot_build.try_draw(source, size, Generators(at_end.seed)("held_out"), split)
    twin = fewshot_build.learner(config, source, Generators(config.seed), device)
    less_is_better = OBJECTIVES[source.spec.kind].best is min
    num_tasks = config.eval_tasks or at_end.num_tasks

    def measure(learner: HasState) -> Metrics:
        twin.load_state_dict(_copied(learner.state_dict()))
        report = evaluate(
            twin.adapter(),
            source,
            size,
            split=split,
            num_tasks=num_tasks,
            num_updates=at_end.num_updates,
            tasks=lambda: Generators(at_end.seed)("held_out"),
            device=device,
        )
        return measures_row(report, less_is_better=less_is_better)

    settings = (
        f"{num_tasks} {split} tasks of seed {at_end.seed}, {size}, {at_end.num_updates} updates"
    )
    return HeldOut(every=config.eval_every, measure=measure, settings=settings)


def _copied(state: Any) -> Any:
    return map_tensors(lambda leaf: leaf.detach().clone(), state)
