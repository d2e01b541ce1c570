"""The training loop with a learner that is nothing but a random walk: what it writes, how it stops,
how it goes on."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl.errors import SettingError, UserError
from metarl.run import checkpoint, rows
from metarl.run.iteration import RunState
from metarl.run.log import RunLog
from metarl.run.progress import _Lines
from metarl.run.rows import read_rows
from metarl.run.seeding import Generators
from metarl.run.shown import RETURNS
from metarl.run.timing import TIMING, without_timing
from metarl.run.train import train
from metarl.run.training import Diverged
from metarl.types import MetaLearner


class Walker(MetaLearner):
    """Adds noise to a parameter; does something special in one iteration."""

    def __init__(self, generators: Generators, special: int = -1, action=None):
        self.generator = generators("policy")
        self.x = torch.zeros(3)
        self.count = 0
        self.special, self.action = special, action

    def step(self):
        self.x += torch.randn(3, generator=self.generator)
        self.count += 1
        if self.count - 1 == self.special:
            self.action(self)
        value = self.x.sum().item()
        return {"env_steps": 10, "return_before": value, "return_after": value + 1}

    def state_dict(self):
        return {"x": self.x, "count": self.count}

    def load_state_dict(self, state):
        self.x.copy_(state["x"])
        self.count = state["count"]


def run(folder, *, iterations=10, special=-1, action=None, resume=False, every=3):
    generators = Generators(4)
    learner = Walker(generators, special, action)
    resume_from = checkpoint.load_newest(folder / "checkpoints")[1] if resume else None
    return train(
        learner,
        generators,
        iterations=iterations,
        run_folder=folder,
        provenance={"env": "none"},
        checkpoint_every=every,
        resume_from=resume_from,
    )


def lines(folder):
    return (folder / "metrics.jsonl").read_text()


def numbers(folder):
    """What follows from the seed, in the order in which it was written."""
    return [list(without_timing(json.loads(line)).items()) for line in lines(folder).splitlines()]


def test_each_iteration_is_one_line_with_what_was_promised(tmp_path):
    outcome = run(tmp_path)
    rows = [json.loads(line) for line in lines(tmp_path).splitlines()]
    assert [row["iteration"] for row in rows] == list(range(10))
    assert [row["env_steps"] for row in rows] == list(range(10, 101, 10))
    assert {"return_before", "return_after"} <= set(rows[0])
    assert (outcome.iteration, outcome.count, outcome.interrupted) == (10, 100, False)
    assert list(tmp_path.glob("events.out.tfevents*"))


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, every):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    run(whole)
    outcome = run(
        stopped, special=4, action=lambda _: os.kill(os.getpid(), signal.SIGINT), every=every
    )
    assert outcome.interrupted and outcome.iteration == 5
    assert run(stopped, resume=True).iteration == 10
    assert numbers(stopped) == numbers(whole)


def test_a_run_that_died_without_warning_goes_on_bit_for_bit(tmp_path):
    """The process is gone between two checkpoints, in the middle of a line of metrics.jsonl."""
    whole, died = tmp_path / "whole", tmp_path / "died"
    whole.mkdir()
    died.mkdir()
    run(whole)
    with pytest.raises(MemoryError):
        run(died, special=8, action=lambda _: (_ for _ in ()).throw(MemoryError()))
    (died / "metrics.jsonl").write_text(lines(died) + '{"iteration": 8, "env_st')
    assert checkpoint.load_newest(died / "checkpoints")[1]["iteration"] == 6
    run(died, resume=True)
    assert numbers(died) == numbers(whole)


def test_each_line_tells_time_and_memory(tmp_path):
    run(tmp_path, special=4, action=lambda _: time.sleep(0.05))
    rows = [json.loads(line) for line in lines(tmp_path).splitlines()]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[4] - seconds[3] >= 0.05
    assert (
        rows[4]["env_steps_per_second"] <= 10 / 0.05
    )  # its 10 steps took the sleep and a little more
    assert all(row["env_steps_per_second"] > 0 for row in rows)
    # torch alone takes more than 50 MiB; a mistaken unit would give a thousandth or a thousand
    # times as much.
    assert all(50 < row["peak_memory_mib"] < 50_000 for row in rows)
    assert {name for name in rows[0] if name not in without_timing(rows[0])} == set(
        rows[0]
    ) & TIMING
    assert {"iteration", "env_steps", "return_before", "return_after"} == set(
        without_timing(rows[0])
    )


class Requeues:
    """What submitit does at its signal: it has the job started again, and ends this process."""

    __module__ = "submitit.core.job_environment"

    def __init__(self, folder):
        self.folder, self.saved = folder, None

    def checkpoint_and_try_requeue(self, number, frame):
        self.saved = checkpoint.load_newest(self.folder / "checkpoints")[1]["iteration"]
        raise SystemExit(-1)


@pytest.mark.parametrize("others", [[], [signal.SIGUSR2], [signal.SIGTERM]])
def test_a_job_is_started_again_once_the_training_is_saved(tmp_path, others):
    """Also if the signal comes twice; a SIGTERM after it ends the training at once."""

    def time_is_over(_):
        for number in (signal.SIGUSR2, *others):
            os.kill(os.getpid(), number)

    submitit = Requeues(tmp_path)
    before = signal.signal(signal.SIGUSR2, submitit.checkpoint_and_try_requeue)
    try:
        with pytest.raises(SystemExit) as stop:
            run(tmp_path, special=4, action=time_is_over)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert stop.value.code == -1
    # Checkpoints are at multiples of three, and where it was stopped in peace.
    assert submitit.saved == (3 if signal.SIGTERM in others else 5)


def test_a_job_whose_training_fails_is_not_started_again(tmp_path):
    def fails(_):
        os.kill(os.getpid(), signal.SIGUSR2)
        raise ZeroDivisionError

    submitit = Requeues(tmp_path)
    before = signal.signal(signal.SIGUSR2, submitit.checkpoint_and_try_requeue)
    try:
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, special=4, action=fails)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert submitit.saved is None


def test_the_seconds_of_a_resumed_run_go_on_where_it_stopped(tmp_path):
    def stop(_):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    run(tmp_path, special=4, action=stop)
    time.sleep(0.2)
    run(tmp_path, resume=True)
    seconds = [json.loads(line)["seconds"] for line in lines(tmp_path).splitlines()]
    saved = checkpoint.load_newest(tmp_path / "checkpoints")[1]["seconds"]
    assert 0.3 <= seconds[4] <= seconds[5] <= seconds[9] <= saved


def test_a_checkpoint_from_before_time_was_told_goes_on(tmp_path):
    run(tmp_path, iterations=3)
    path, content, _ = checkpoint.load_newest(tmp_path / "checkpoints")
    del content["seconds"]
    checkpoint.save(path.parent, content, keep=1)
    assert run(tmp_path, resume=True).iteration == 10


def test_tensorboard_tells_time_too(tmp_path):
    run(tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"seconds", "env_steps_per_second", "peak_memory_mib"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("seconds")) == 10


@pytest.mark.parametrize("keep", [1, 3])
def test_going_on_from_an_older_checkpoint_replaces_what_came_after_it(tmp_path, keep, capsys):
    run(tmp_path, every=2)
    older = checkpoint.load(tmp_path / "checkpoints" / "iteration_00000006.pt")
    generators = Generators(4)
    learner = Walker(generators)
    settings = {
        "run_folder": tmp_path,
        "provenance": {},
        "checkpoint_every": 5,
        "keep_checkpoints": keep,
    }
    outcome = train(learner, generators, iterations=7, resume_from=older, **settings)
    assert outcome.iteration == 7
    assert "iteration_00000008.pt, iteration_00000010.pt removed" in capsys.readouterr().err
    newest = checkpoint.load_newest(tmp_path / "checkpoints")[1]
    assert newest["iteration"] == 7 and torch.equal(newest["learner"]["x"], learner.x)
    assert [row["iteration"] for row in read_rows(tmp_path / "metrics.jsonl")] == list(range(7))


def test_a_run_killed_while_it_goes_back_to_an_older_checkpoint_is_of_one_piece(
    tmp_path, monkeypatch
):
    """It dies before its first own checkpoint."""
    whole, back = tmp_path / "whole", tmp_path / "back"
    whole.mkdir()
    back.mkdir()
    run(whole)
    run(back)
    older = checkpoint.load(back / "checkpoints" / "iteration_00000006.pt")
    generators = Generators(4)
    die = Walker(generators, 7, lambda _: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        train(
            *(die, generators),
            iterations=10,
            run_folder=back,
            provenance={},
            checkpoint_every=100,
            resume_from=older,
        )
    assert run(back, resume=True).iteration == 10
    assert numbers(back) == numbers(whole)


def test_a_run_that_is_done_is_left_as_it_is(tmp_path):
    run(tmp_path, every=2)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    older = checkpoint.load(tmp_path / "checkpoints" / "iteration_00000006.pt")
    generators = Generators(4)
    learner = Walker(generators)
    settings = {
        "run_folder": tmp_path,
        "provenance": {},
        "checkpoint_every": 1,
        "keep_checkpoints": 1,
    }
    outcome = train(learner, generators, iterations=6, resume_from=older, **settings)
    assert (outcome.iteration, outcome.count, outcome.interrupted) == (6, 60, False)
    assert torch.equal(learner.x, older["learner"]["x"])
    assert {
        path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    } == before


DAMAGED = [
    b'{"iteration": 3, "env_st',
    b"\0" * 50,
    b"\xff\xfe{",
    b"",
    b"17",
    b"[1]",
    b'{"env_steps": 3}',
    b'{"iteration": "3"}',
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_line_of_metrics_costs_that_line_alone(tmp_path, damaged, capsys):
    run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    rows = path.read_bytes().splitlines()
    rows[3] = damaged
    path.write_bytes(b"\n".join(rows) + b"\n")
    assert [row["iteration"] for row in read_rows(path)] == [0, 1, 2, *range(4, 10)]
    generators = Generators(4)
    settings = {"run_folder": tmp_path, "provenance": {}, "checkpoint_every": 5}
    newest = checkpoint.load_newest(tmp_path / "checkpoints")[1]
    train(Walker(generators), generators, iterations=12, resume_from=newest, **settings)
    assert [row["iteration"] for row in read_rows(path)] == [0, 1, 2, *range(4, 12)]
    assert "metrics.jsonl: 1 damaged lines left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kept", "told"), [(None, "0 to 9"), (0, "0 to 9"), (7, "7 to 9"), (10, None)]
)
def test_rows_that_are_gone_are_told(tmp_path, kept, told, capsys):
    run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    assert len(rows) == 10
    path.unlink() if kept is None else path.write_bytes(b"".join(rows[:kept]))
    generators = Generators(4)
    settings = {"run_folder": tmp_path, "provenance": {}, "checkpoint_every": 5}
    newest = checkpoint.load_newest(tmp_path / "checkpoints")[1]
    train(Walker(generators), generators, iterations=12, resume_from=newest, **settings)
    said = capsys.readouterr().err
    assert ("are gone" in said) == (told is not None)
    assert told is None or f"metrics.jsonl: the rows from iteration {told} are gone" in said


def test_processes_that_share_a_run_need_a_row_for_each_iteration(tmp_path):
    """They ask each other in every iteration whether to stop."""
    generators, two = Generators(4), SimpleNamespace(num=2)
    settings = {"run_folder": tmp_path, "provenance": {}, "checkpoint_every": 4}
    with pytest.raises(ValueError, match="log_every 2: expected 1, for 2 processes share a run"):
        train(Walker(generators), generators, iterations=8, log_every=2, ranks=two, **settings)


def test_a_disk_that_fills_up_while_a_resume_tidies_metrics_loses_no_row(tmp_path, monkeypatch):
    run(tmp_path)
    before = lines(tmp_path)
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(UserError, match="metrics.jsonl: No space left on device"):
        RunLog(tmp_path, first_iteration=8)
    assert lines(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_row_that_finds_no_place_is_said(tmp_path):
    log = RunLog(tmp_path, first_iteration=0)
    log._metrics._file.close()
    no_place = pytest.raises(UserError, match="metrics.jsonl: No space left on device")
    with Path("/dev/full").open("ab", buffering=0) as log._metrics._file, no_place:
        log.write({"iteration": 0})
    log.close()


def test_nan_stops_with_iteration_tensor_and_the_checkpoint_from_before(tmp_path):
    def poison(learner):
        learner.x[1] = float("nan")

    with pytest.raises(
        Diverged, match=r"iteration 4: metric return_before is nan.*iteration_00000004.pt"
    ):
        run(tmp_path, special=4, action=poison)
    saved = checkpoint.load_newest(tmp_path / "checkpoints")[1]
    assert saved["iteration"] == 4 and saved["learner"]["x"].isfinite().all()
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 4  # the bad iteration isn't logged
    assert run(tmp_path, resume=True).iteration == 10  # and the state is good to go on from


def test_a_row_that_nan_cuts_short_tells_of_what_was_before(tmp_path, capsys):
    def poison(learner):
        learner.x[1] = float("nan")

    def trained(learner, **more):
        settings = {"run_folder": tmp_path, "provenance": {}, "checkpoint_every": 5}
        train(learner, generators, iterations=10, log_every=5, **settings, **more)

    generators = Generators(4)
    with pytest.raises(Diverged, match="iteration_00000007.pt"):
        trained(Walker(generators, 7, poison))
    assert [row["iteration"] for row in read_rows(tmp_path / "metrics.jsonl")] == [4, 6]
    generators = Generators(4)
    newest = checkpoint.load_newest(tmp_path / "checkpoints")[1]
    trained(Walker(generators), resume_from=newest)
    assert [row["iteration"] for row in read_rows(tmp_path / "metrics.jsonl")] == [4, 6, 9]
    assert "gone" not in capsys.readouterr().err


def test_a_metric_of_numpy_or_torch_is_a_number_and_text_is_named(tmp_path):
    learner = Walker(Generators(4))
    step = learner.step
    others = {"slope": np.float32(0.5), "rise": torch.tensor(2.0)}
    learner.step = lambda: {**step(), **others}
    found = RunState(learner, Generators(4), RETURNS).iterate()
    assert (found["slope"], found["rise"]) == (0.5, 2.0) and type(found["slope"]) is float
    learner.step = lambda: {**step(), "slope": "steep"}
    with pytest.raises(SettingError, match="metric slope is a str; expected a number"):
        RunState(learner, Generators(4), RETURNS).iterate()


def test_a_tensor_that_diverges_while_the_metrics_look_well_is_named(tmp_path):
    class Hidden(Walker):
        def step(self):
            metrics = super().step()
            return metrics | {"return_before": 0.0, "return_after": 0.0}

    generators = Generators(0)
    learner = Hidden(generators, 2, lambda one: one.x.fill_(float("inf")))
    with pytest.raises(Diverged, match="tensor x holds NaN or infinity"):
        train(
            learner,
            generators,
            iterations=5,
            run_folder=tmp_path,
            provenance={},
            checkpoint_every=1,
        )


def test_streams_depend_on_seed_and_name_only():
    one, other = Generators(3), Generators(3)
    other("something else")
    draws = [torch.rand(2, generator=g("tasks")).tolist() for g in (one, other, Generators(4))]
    assert draws[0] == draws[1] != draws[2]
    assert torch.rand(2, generator=one("reset")).tolist() != draws[0]


def test_streams_resume_where_they_were():
    generators = Generators(3)
    torch.rand(5, generator=generators("tasks"))
    state = generators.state_dict()
    expected = torch.rand(3, generator=generators("tasks")).tolist()
    fresh = Generators(3)
    fresh("tasks")
    fresh.load_state_dict(state)
    assert torch.rand(3, generator=fresh("tasks")).tolist() == expected


def test_a_run_that_goes_on_from_a_copy_can_go_on_again(tmp_path):
    """As from the best one, which is older than all others: killed before its first checkpoint, it
    has one all the same."""
    run(tmp_path)
    place = tmp_path / "checkpoints" / "iteration_00000006.pt"
    copied = checkpoint.load(place)
    place.unlink()
    generators = Generators(4)
    die = Walker(generators, 7, lambda _: (_ for _ in ()).throw(MemoryError()))
    where = {"run_folder": tmp_path, "provenance": {}}
    with pytest.raises(MemoryError):
        train(die, generators, iterations=9, checkpoint_every=9, resume_from=copied, **where)
    assert [path.name for path in checkpoint.list_checkpoints(place.parent)] == [place.name]


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_on_them(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(rows, "flush", lambda path: flushed.append(path.name))
    run(tmp_path)
    assert flushed.count("metrics.jsonl") == 4  # after 3, 6, 9 and 10 iterations


def test_a_console_that_nobody_reads_any_more_costs_nothing(tmp_path, monkeypatch):
    """Ctrl-C ends the reader of a pipe (`| tee log`) together with the training."""

    class Gone:
        encoding = "utf-8"

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

        def isatty(self):
            return False

    def interrupt(learner):
        monkeypatch.setattr(sys, "stderr", Gone())
        if stops:
            os.kill(os.getpid(), signal.SIGINT)

    for stops in (True, False):
        folder = tmp_path / str(stops)
        folder.mkdir()
        monkeypatch.setattr(_Lines, "INTERVAL", 0.0)
        outcome = run(folder, special=4, action=interrupt)
        monkeypatch.undo()
        assert outcome.interrupted and outcome.iteration == 5
        assert checkpoint.load_newest(folder / "checkpoints")[1]["iteration"] == 5


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"return": 1.0}, "the metrics of Walker lack env_steps; they are return"),
        ({"env_steps": 10}, "lack return_before and return_after, or return; they are env_steps"),
        (None, "an iteration of Walker returned None; expected its metrics, numbers by name"),
    ],
)
def test_metrics_that_an_own_learner_forgets_are_named(tmp_path, monkeypatch, metrics, said):
    monkeypatch.setattr(Walker, "step", lambda self: metrics)
    with pytest.raises(TypeError, match=re.escape(said)):
        run(tmp_path)


def test_what_a_users_function_breaks_off_is_saved(tmp_path):
    def breaks(row):
        if row["iteration"] == 4:
            raise KeyError

    generators = Generators(4)
    settings = {"run_folder": tmp_path, "provenance": {}, "checkpoint_every": 3}
    with pytest.raises(KeyError):
        train(Walker(generators), generators, iterations=10, on_row=breaks, **settings)
    assert checkpoint.load_newest(tmp_path / "checkpoints")[1]["iteration"] == 5


def test_rows_are_on_the_disk_before_the_checkpoint_of_a_divergence(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(rows, "flush", lambda path: flushed.append(path.name))
    with pytest.raises(Diverged):
        run(tmp_path, special=5, action=lambda walker: walker.x.fill_(float("nan")))
    # After the three iterations of a checkpoint, and after the five that went well.
    assert flushed.count("metrics.jsonl") == 2


class Forgetful(Walker):
    def load_state_dict(self, state):
        self.count = state["count"]


def test_a_learner_that_does_not_take_its_state_back_is_told_so(tmp_path):
    run(tmp_path, iterations=3)
    generators = Generators(4)
    with pytest.raises(
        SettingError, match=r"Forgetful.load_state_dict has left x as it was; expec"
    ):
        RunState(Forgetful(generators), generators, RETURNS).load(
            checkpoint.load_newest(tmp_path / "checkpoints")[1]
        )
