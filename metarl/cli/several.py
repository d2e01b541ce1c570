"""Several seeds of one configuration in one process: a folder with a run folder for each.

<folder>/seed0, <folder>/seed1, ... are run folders as those of seeds that were trained alone, with
the same numbers. <folder> has the config.yaml of all, their means as metrics.jsonl and TensorBoard
events, and at the end what they say together.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from metarl.cli import (
    build,
    comparison,
    console,
    evaluation,
    held_out,
    origins,
    placement,
    resumed_config,
    run_config,
    run_folder,
    start,
    sweep,
    tracking,
)
from metarl.cli.configs import as_dict, merged
from metarl.cli.run_folder import AskedRun, Place
from metarl.cli.transcript import Transcript
from metarl.errors import UserError
from metarl.files import write_text
from metarl.report import seeds as seeds_report
from metarl.report.algo_name import algo_name
from metarl.report.evaluation import write
from metarl.report.finished import numbers_of
from metarl.report.run_places import num_seeds_in
from metarl.rl.algorithms.shared import GatheringLearner, Source
from metarl.rl.algorithms.together import TogetherSource
from metarl.rl.evaluation.several_runs import interval_over_seeds
from metarl.rl.types import RLLearner
from metarl.run.lock import FolderLock
from metarl.run.loggers.logger import settings
from metarl.run.memory import check_together_fit
from metarl.run.seeding import Generators
from metarl.run.together import train_together
from metarl.run.training import Diverged, Outcome, Training, check

_OWN = ("seed", "num_seeds", "run_dir", "resume")
"""What the configurations of the seeds have otherwise than that of all."""


class Several:
    """The runs that are about to begin or to go on."""

    def __init__(self, above: AskedRun, seeds: Mapping[int, AskedRun]) -> None:
        """Args: above: the folder above, whose config is that of all; seeds: by seed."""
        self.above = above
        self.seeds = seeds

    def create(self) -> tuple[Path, list[Place]]:
        """Makes the folders that aren't there. Raises: UserError as `Run.create`."""
        for run in (self.above, *self.seeds.values()):
            run.take()  # Before any is written to: one that can't be had must leave no others.
        folder, _ = self.above.create()
        return folder, [run.create() for run in self.seeds.values()]


def is_asked_for(config: DictConfig) -> bool:
    """Whether the command line means several seeds, new ones or a folder to go on with."""
    if config.resume is None:
        return bool(config.num_seeds > 1)
    return num_seeds_in(Path(config.resume).expanduser()) > 1


def run(config: DictConfig) -> None:
    """Trains all seeds, then evaluates each and all of them together."""
    # MuJoCo Warp looks at the GPU's memory itself.
    if config.resume is None and config.sim.backend != "warp":
        build.check_memory(config, config.num_seeds * build.sizes(config).num_worlds)
    with choose(config) as asked:
        config = asked.above.config
        device = start.prepare(asked.above)
        for own in asked.seeds.values():
            own.config.sim.backend = config.sim.backend
        generators = [Generators(seed) for seed in asked.seeds]
        # For spaces, horizon and prior alone: their worlds are in an environment of all.
        with build.one_world(config) as world:
            learners = [build.learner(config, world, own, device) for own in generators]
        sources = [_source(config, learner) for learner in learners]
        runs = list(asked.seeds.values())
        going = [pair for pair in zip(runs, learners, strict=True) if pair[0].has_work]
        for own, learner in going:
            every = own.config.checkpoint_every
            check(learner, iterations=own.config.iterations, checkpoint_every=every)
        check_together_fit([learner.experience for _, learner in going])
        loggers = tracking.tracking(config)
        folder, places = asked.create()
        place = placement.described(config, device)
        run_folder.say(f"run folder {folder}, {len(runs)} seeds, {place}")
        of_place = placement.provenance(config, device)
        with ExitStack() as stack:
            trainings = [
                Training(
                    learner,
                    own_generators,
                    iterations=own.config.iterations,
                    run_folder=place,
                    provenance=origins.provenance(own.config, world) | of_place,
                    checkpoint_every=own.config.checkpoint_every,
                    keep_checkpoints=own.config.keep_checkpoints,
                    held_out=stack.enter_context(held_out.returns(own.config, device)),
                    tracking=loggers,
                    resume_from=own.resume_from,
                    lock=lock,
                )
                for own, learner, own_generators, (place, lock) in zip(
                    runs, learners, generators, places, strict=True
                )
            ]
            gathering = TogetherSource(sources, partial(build.training_environment, config, device))
            stack.callback(gathering.close)
            found = train_together(trainings, gathering.gather, folder=folder, interval=_interval)
        _stop_if_interrupted(folder, found)
        with run_folder.saying_how_to_evaluate(folder):
            _report(runs, learners, folder, device, found)


@contextmanager
def choose(config: DictConfig) -> Iterator[Several]:
    """The runs that the config asks for; see `run_folder.choose`.

    Raises: UserError as that does, for the folder of each seed, too.
    """
    with ExitStack() as held:
        if config.resume is not None:
            transcript = held.enter_context(Transcript())
            found = _resumed(config, held)
            found.above.transcript = transcript
            yield found
            return
        above = held.enter_context(run_folder.choose(config))
        yield Several(above, {seed: _new(above, seed, held) for seed in _seeds(config)})


def _seeds(config: DictConfig) -> range:
    return range(config.seed, config.seed + config.num_seeds)


def _new(above: AskedRun, seed: int, held: ExitStack) -> AskedRun:
    """The run of a seed, in a folder of its own below the other's."""

    def take() -> Place:
        assert above.folder is not None
        return run_folder.named_folder(above.folder / f"seed{seed}", held)

    own = {"seed": seed, "num_seeds": 1, "run_dir": None, "resume": None}
    return AskedRun(merged(above.config, own), above.choices, take)


def _resumed(config: DictConfig, held: ExitStack) -> Several:
    """Each seed goes on from its own newest checkpoint; one that has none begins."""
    folder, given = Path(config.resume).expanduser(), run_folder.given(config)
    said = set[str]()

    def say(message: str) -> None:
        if message not in said:  # Most concerns all seeds alike.
            run_folder.say(message)
        said.add(message)

    lock = held.enter_context(FolderLock(folder, say=say))
    sweep.note_folder(folder, run_folder.resume_command(folder))
    whole, choices, follow = run_config.read(folder / "config.yaml", ("env", "algo"))
    resumed_config.check_unchanged(whole, given)
    of_each = _of_each(whole, given)
    places = {seed: folder / f"seed{seed}" for seed in _seeds(whole)}
    begun = {
        seed: run_folder.resumed(str(place), of_each, held, say=say)
        for seed, place in places.items()
        if (place / "config.yaml").is_file()
    }
    for seed, run in begun.items():
        _check_like(run.config, whole, follow, seed, places[seed])
    done = [
        0 if run.resume_from is None else run.resume_from["iteration"] for run in begun.values()
    ]
    first = min(done) if len(done) == len(places) else 0
    resumed_config.change(whole, given, follow, first, say)
    above = AskedRun(whole, choices, lambda: (folder, lock), {"iteration": first})
    return Several(above, {seed: begun.get(seed) or _new(above, seed, held) for seed in places})


def _of_each(whole: DictConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """What all seeds have alike of the settings that may change: as the folder above has them, or
    as they are given now. A seed may not have heard of a change that was killed on its way."""
    keys = [key for key in resumed_config.MAY_CHANGE_ON_RESUME if key not in _OWN]
    present = {key: OmegaConf.select(whole, key, default=_ABSENT) for key in keys}
    kept = {key: value for key, value in present.items() if value is not _ABSENT}
    return kept | {key: value for key, value in given.items() if key not in _OWN}


_ABSENT = object()


def _check_like(
    config: DictConfig, whole: DictConfig, follow: Sequence[str], seed: int, place: Path
) -> None:
    """Raises: UserError naming a setting in which the run of a seed isn't one of those that the
    folder above has. Args: follow: keys of what follows `iterations`."""
    own, above = (settings({**as_dict(of, resolve=True), **_NOT_ALIKE}) for of in (config, whole))
    for key in own.keys() | above.keys():
        if key in follow or resumed_config.may_change(key):
            continue
        if key in own and key in above and own[key] != above[key]:
            raise UserError(
                f"{place} has {key}={own[key]}, the folder above {above[key]}; expected runs of one "
                "configuration"
            )
    if config.seed != seed:
        raise UserError(f"{place} has seed={config.seed}; expected {seed}, as its name says")


_NOT_ALIKE = dict.fromkeys((*_OWN, "composed"))


def _source(config: DictConfig, learner: RLLearner) -> Source:
    if not isinstance(learner, GatheringLearner):
        raise UserError(
            f"num_seeds={config.num_seeds}: {algo_name(config)} gathers by itself, so its "
            "seeds can't share a simulation; expected 1 (a run for each seed is -m seed=0,1,2)"
        )
    return learner.source


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = interval_over_seeds(torch.tensor(values, dtype=torch.float64))
    return low.item(), high.item()


def _stop_if_interrupted(folder: Path, found: Sequence[Outcome | Diverged]) -> None:
    outcomes = [outcome for outcome in found if isinstance(outcome, Outcome)]
    if any(outcome.interrupted for outcome in outcomes):
        run_folder.say_how_to_go_on(folder, min(outcome.iteration for outcome in outcomes))
        raise SystemExit(130)


def _report(
    runs: Sequence[AskedRun],
    learners: Sequence[RLLearner],
    folder: Path,
    device: torch.device,
    found: Sequence[Outcome | Diverged],
) -> None:
    """What a training ends with in the folder of each seed, and above them what all say together.

    Raises: Diverged, once the others are reported, if seeds diverged.
    """
    reports, errors = list[tuple[Path, Mapping[str, Any]]](), dict[int, str]()
    for own, learner, outcome in zip(runs, learners, found, strict=True):
        if isinstance(outcome, Diverged):
            errors[own.config.seed] = str(outcome)
            continue
        assert own.folder is not None
        try:
            evaluated = evaluation.evaluate_run(own.config, learner, own.folder, device, outcome)
        except FloatingPointError as error:
            errors[own.config.seed] = f"seed {own.config.seed} can't be evaluated: {error}"
            continue
        write(own.folder, evaluated.report)
        evaluation.illustrate(own.config, learner, evaluated, own.folder, device)
        film = own.folder / "adaptation.mp4"
        evaluation.tell_loggers(own.config, evaluated.report, own.folder, outcome, film)
        reports.append((own.folder, evaluated.report))
    if reports:
        together = _report_together(
            runs[0].config,
            [place for place, _ in reports],
            [report for _, report in reports],
            folder,
            diverged=sorted(errors),
        )
        first = next(outcome for outcome in found if isinstance(outcome, Outcome))
        evaluation.tell_loggers(runs[0].config, together, folder, first)
    if errors:
        raise Diverged(
            f"{len(errors)} of {len(found)} seeds diverged: {'; '.join(errors.values())}"
        )
    comparison.note(folder)  # A sweep counts a run as done where all its seeds are.


def _report_together(
    config: DictConfig,
    places: Sequence[Path],
    reports: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    diverged: Sequence[int],
) -> dict[str, Any]:
    from metarl.report.plots import learning_curve_png, return_curves  # loads Matplotlib

    report = seeds_report.together(reports, diverged=diverged)
    with console.shown_after(seeds_report.table(report)):
        text = json.dumps(report | evaluation.provenance(config, folder), indent=2)
        write_text(folder / "evaluation.json", text)
    metrics = [numbers_of(place / "metrics.jsonl") for place in places]
    if all(metrics):
        title = f"{report['env']}, {report['algo']}, seeds {report['seed']}"
        curves = return_curves(metrics[0], report["unit"])
        picture = folder / "learning_curve.png"
        learning_curve_png(picture, metrics, title=title, curves=curves)
    run_folder.say(f"written to {folder}")
    return report
