"""One run in several processes, as torchrun starts them: number 0 chooses the folder, writes and
evaluates, the others do their part of the tasks."""

from contextlib import ExitStack
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from metarl.cli import (
    build,
    evaluation,
    held_out,
    origins,
    placement,
    run_folder,
    start,
    tracking,
)
from metarl.cli.configs import as_dict, merged
from metarl.errors import UserError
from metarl.report.algo_name import algo_name
from metarl.rl.algorithms.shared import GatheringLearner
from metarl.rl.types import BatchedEnv, RLLearner
from metarl.run import distributed
from metarl.run.distributed import Processes
from metarl.run.seeding import Generators
from metarl.run.train import follow, train
from metarl.run.training import check
from metarl.struct import struct


@struct
class Made:
    """What each process makes of the same configuration."""

    device: torch.device
    generators: Generators
    env: BatchedEnv
    learner: RLLearner


def run(config: DictConfig) -> None:
    if config.num_seeds > 1:
        raise UserError(
            f"num_seeds={config.num_seeds}: processes of torchrun share the tasks of one seed; "
            "expected 1"
        )
    if distributed.rank() == 0:
        _lead(config)
    else:
        _follow()


def _lead(config: DictConfig) -> None:
    with ExitStack() as held:
        with distributed.joined() as ranks:
            try:
                asked = held.enter_context(run_folder.choose(config))
                config = asked.config
                device = start.prepare(asked)
                made = _made(config, device.type, ranks)
                if asked.has_work:
                    every = config.checkpoint_every
                    check(made.learner, iterations=config.iterations, checkpoint_every=every)
                loggers = tracking.tracking(config)
                folder, lock = asked.create()
            except BaseException:
                ranks.told(None)  # The others wait for it.
                raise
            plain = as_dict(config, resolve=True)
            ranks.told((plain, device.type, str(folder), asked.resume_from))
            place = placement.described(config, made.device)
            run_folder.say(f"run folder {folder}, {ranks.num} processes, {place}")
            with held_out.returns(config, made.device) as evaluations:
                outcome = train(
                    made.learner,
                    made.generators,
                    iterations=config.iterations,
                    run_folder=folder,
                    provenance=origins.provenance(config, made.env)
                    | placement.provenance(config, made.device),
                    checkpoint_every=config.checkpoint_every,
                    keep_checkpoints=config.keep_checkpoints,
                    held_out=evaluations,
                    tracking=loggers,
                    resume_from=asked.resume_from,
                    lock=lock,
                    ranks=ranks,
                )
        if outcome.interrupted:
            run_folder.say_how_to_go_on(folder, outcome.iteration)
            raise SystemExit(130)
        made.env.close()  # A GPU has its memory back for the evaluation.
        with run_folder.saying_how_to_evaluate(folder):
            evaluation.report_run(config, made.learner, folder, made.device, outcome)


def _follow() -> None:
    with distributed.joined() as ranks:
        job = ranks.told(None)[0]
        if job is None:  # Number 0 has said why.
            raise SystemExit(2)
        plain, device, folder, resume_from = job
        config = OmegaConf.create(plain)
        made = _made(config, device, ranks)
        try:
            follow(
                made.learner,
                made.generators,
                ranks,
                iterations=config.iterations,
                run_folder=Path(folder),
                resume_from=resume_from,
            )
        except FloatingPointError:  # Number 0 meets it, too, and says so.
            raise SystemExit(2) from None


def _made(config: DictConfig, kind: str, ranks: Processes) -> Made:
    """Args: kind: of the device, cpu or cuda. Raises: UserError if there aren't enough devices, or
    the tasks can't be shared out."""
    sizes = build.sizes(config)
    if sizes.num_tasks % ranks.num:
        raise UserError(
            f"algo.meta_batch_size={sizes.num_tasks}: the tasks can't be shared out among "
            f"{ranks.num} processes; expected a multiple of {ranks.num}"
        )
    device, generators = distributed.own_device(torch.device(kind)), Generators(config.seed)
    num_threads = config.sim.num_threads or distributed.share_of_cores()
    own = merged(config, {"sim": {"num_threads": num_threads}})
    env = build.training_environment(own, device, sizes.num_worlds // ranks.num)
    learner = build.learner(config, env, generators, device, ranks)
    if not isinstance(learner, GatheringLearner):
        raise UserError(
            f"algo={algo_name(config)} gathers by itself, so its tasks can't be shared out "
            "among processes; call it without torchrun"
        )
    return Made(device=device, generators=generators, env=env, learner=learner)
