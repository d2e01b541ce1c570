"""The files of an experience beside the checkpoints: written once, kept as long as needed, whole
after a kill at any moment."""

import json
import os
import signal
from pathlib import Path

import gymnasium
import pytest
import torch
from support.played import trajectories

from metarl.errors import UserError
from metarl.noise import Noise
from metarl.rl.data.replay import Replay
from metarl.run import checkpoint, memory
from metarl.run.held_out import HeldOut
from metarl.run.iteration import RunState
from metarl.run.seeding import Generators
from metarl.run.shards import Shards
from metarl.run.shown import RETURNS
from metarl.run.timing import without_timing
from metarl.run.train import train
from metarl.run.training import Diverged
from metarl.types import MetaLearner

ITERATIONS = 8
CPU = torch.device("cpu")


class Collector(MetaLearner):
    """Adds two trials to a replay, then moves a parameter by what it draws from it."""

    def __init__(self, generators, *, capacity=25, special=-1, action=None):
        self._generator = generators("policy")
        space = gymnasium.spaces.Box(-1, 1, (2,))
        self.experience = Replay(
            num_tasks=3, capacity=capacity, obs_size=2, action_space=space, device=CPU
        )
        self.x, self.done = torch.zeros(2), 0
        self.special, self.action = special, action

    def step(self):
        lengths = torch.randint(1, 7, (2, 1), generator=self._generator)
        ids = torch.randint(3, (2,), generator=self._generator)
        self.experience.add(
            ids, trajectories(self._generator, 2, 1, 6, lengths=lengths.tolist()), context="begins"
        )
        drawn = self.experience.transitions(ids, 5, Noise(self._generator))
        self.x += drawn.obs.mean((0, 1)) + self.experience.context(
            ids, 5, Noise(self._generator)
        ).obs.mean((0, 1))
        self.done += 1
        if self.done - 1 == self.special:
            self.action(self)
        return {
            "env_steps": int(lengths.sum()),
            "return_before": self.x[0].item(),
            "return_after": self.x[1].item(),
        }

    def state_dict(self):
        return {"x": self.x, "done": self.done}

    def load_state_dict(self, state):
        self.x.copy_(state["x"])
        self.done = state["done"]


def run(folder, *, iterations=ITERATIONS, every=2, keep=2, resume=False, **settings):
    folder.mkdir(exist_ok=True)
    generators = Generators(4)
    learner = Collector(generators, **settings)
    resume_from = checkpoint.load_newest(folder / "checkpoints")[1] if resume else None
    train(
        learner,
        generators,
        iterations=iterations,
        run_folder=folder,
        provenance={},
        checkpoint_every=every,
        keep_checkpoints=keep,
        resume_from=resume_from,
    )
    return learner


def numbers(folder):
    return [
        without_timing(json.loads(line))
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def files(folder):
    return sorted(path.name for path in (folder / "checkpoints" / "experience").iterdir())


def needed(folder):
    paths = checkpoint.list_checkpoints(folder / "checkpoints")
    return sorted({name for path in paths for name in checkpoint.load(path)["experience"]})


def content(learner):
    """All that is held, as it would be saved."""
    return [(shard.first, shard.stop, shard.content) for shard in learner.experience.shards(0)]


def same(one, other):
    torch.testing.assert_close(content(one), content(other), atol=0, rtol=0)
    assert one.experience.kept() == other.experience.kept() and torch.equal(one.x, other.x)


@pytest.mark.parametrize("capacity", [12, 25, 1000])
@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, every, capacity):
    whole = run(tmp_path / "whole", capacity=capacity)
    stop = {"special": 4, "action": lambda _: os.kill(os.getpid(), signal.SIGINT)}
    run(tmp_path / "stopped", every=every, capacity=capacity, **stop)
    resumed = run(tmp_path / "stopped", every=every, capacity=capacity, resume=True)
    same(resumed, whole)
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")


def test_each_entry_is_written_once_and_checkpoints_hold_none(tmp_path):
    run(tmp_path / "run", capacity=1000, keep=10, iterations=20)
    entries = [name.split("-")[:2] for name in files(tmp_path / "run")]
    covered = [number for first, stop in entries for number in range(int(first), int(stop))]
    assert covered == list(range(40))  # two trials an iteration, each in one file
    sizes = [
        path.stat().st_size
        for path in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")
    ]
    assert max(sizes) - min(sizes) < 1000  # names of files, some 40 bytes each


@pytest.mark.parametrize("keep", [1, 3])
def test_files_that_no_kept_checkpoint_needs_are_removed(tmp_path, keep):
    folder = tmp_path / "run"
    learner = run(folder, capacity=12, keep=keep, iterations=20)
    assert files(folder) == needed(folder)
    newest = checkpoint.load_newest(folder / "checkpoints")[1]["experience"]
    spans = [range(*map(int, name.split("-")[:2])) for name in newest]
    assert all(set(span) & set(learner.experience.kept()) for span in spans)
    assert int(files(folder)[0].split("-")[0]) > 0  # the first ones made room
    for path in checkpoint.list_checkpoints(
        folder / "checkpoints"
    ):  # every one that is kept can be gone on from
        learner = Collector(Generators(0), capacity=12)
        Shards(folder / "checkpoints").load(learner.experience, checkpoint.load(path))
    assert (
        run(folder, capacity=12, keep=keep, iterations=24, resume=True).done == 24
    )  # by a process that must read them
    assert files(folder) == needed(folder)


def test_where_a_checkpoint_cannot_be_read_nothing_that_it_may_need_is_removed(
    tmp_path, monkeypatch
):
    """A process that goes on must read what the checkpoints of the one before need."""
    folder = tmp_path / "run"
    run(folder, capacity=12, keep=3)
    load = checkpoint.load
    unreadable = checkpoint.list_checkpoints(folder / "checkpoints")[-2]

    def fails(path, *args):
        if path == unreadable:
            raise UserError(f"can't read the checkpoint {path}: Input/output error")
        return load(path, *args)

    kept = load(unreadable)["experience"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "load", fails)
        run(folder, capacity=12, keep=3, iterations=ITERATIONS + 2, resume=True)
    assert unreadable.exists() and set(kept) <= set(files(folder))
    run(folder, capacity=12, keep=3, iterations=ITERATIONS + 4, resume=True)
    assert files(folder) == needed(folder)


def test_going_on_from_an_older_checkpoint_replaces_the_files_of_the_newer_ones(tmp_path):
    whole = run(tmp_path / "run", keep=5)
    older = checkpoint.load(tmp_path / "run" / "checkpoints" / "iteration_00000004.pt")
    generators = Generators(4)
    learner = Collector(generators)
    settings = {
        "run_folder": tmp_path / "run",
        "provenance": {},
        "checkpoint_every": 3,
        "keep_checkpoints": 5,
    }
    train(learner, generators, iterations=ITERATIONS, resume_from=older, **settings)
    same(learner, whole)
    assert files(tmp_path / "run") == needed(tmp_path / "run")


def test_a_divergence_takes_back_what_the_iteration_gathered(tmp_path):
    whole = run(tmp_path / "whole", capacity=12)

    def poison(learner):
        learner.x[0] = float("nan")

    with pytest.raises(Diverged, match="iteration 5: metric return_before is nan"):
        run(tmp_path / "run", capacity=12, special=5, action=poison)
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]["iteration"] == 5
    same(run(tmp_path / "run", capacity=12, resume=True), whole)
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


def test_an_experience_that_is_not_finite_is_a_divergence(tmp_path):
    def gather_nan(learner):
        bad = trajectories(torch.Generator().manual_seed(0), 1, 1, 6)
        bad.reward[0, 0, 3] = float("nan")
        learner.experience.add(torch.tensor([0]), bad)

    with pytest.raises(
        Diverged, match="iteration 3: tensor experience.replay.reward holds NaN or infinity"
    ):
        run(tmp_path / "run", special=3, action=gather_nan)
    same(run(tmp_path / "run", resume=True), run(tmp_path / "whole"))


def test_an_iteration_looks_through_and_copies_nothing_of_the_experience(tmp_path, monkeypatch):
    generators = Generators(4)
    learner = Collector(generators, capacity=1000)
    progress = RunState(learner, generators, RETURNS)
    for _ in range(5):
        progress.iterate()
    touched = []
    monkeypatch.setattr(Replay, "shards", lambda *_: touched.append("shards"))
    whole, cloned = torch.Tensor.isfinite, torch.Tensor.clone
    for name, method in (("isfinite", whole), ("clone", cloned)):
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, m=method: (touched.append(self.numel()), m(self))[1]
        )
    progress.iterate()
    # 2 trials of up to 6 steps of 2 observations; the replay has 3000 rows.
    assert "shards" not in touched and max(touched) <= 2 * 6 * 2


def fork(program) -> int:
    """Runs it in a copy of this process. Returns the signal that ended it, 0 if none did."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            program()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that copies processes")
@pytest.mark.parametrize(("done", "until"), [(0, 2), (6, 7)])
def test_a_run_killed_before_any_of_its_operations_on_files_goes_on_bit_for_bit(
    tmp_path, done, until
):
    """By SIGKILL, before the n-th flush, renaming or removal of a file, for every n, of a new run
    and of one that goes on."""
    settings = {"every": 1, "keep": 1, "capacity": 12}
    whole = run(tmp_path / "whole", iterations=8, **settings)

    def die_at(moment):
        count = 0

        def counted(operation):
            def wrapper(*args, **more):
                nonlocal count
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                return operation(*args, **more)

            return wrapper

        os.fsync = counted(os.fsync)
        Path.replace = counted(Path.replace)
        Path.unlink = counted(Path.unlink)

    moment, killed = 0, True
    while killed:
        moment += 1
        folder = tmp_path / f"killed{moment}"
        if done:
            run(folder, iterations=done, **settings)

        def program(moment=moment, folder=folder):
            die_at(moment)
            run(folder, iterations=until, resume=done > 0, **settings)

        killed = fork(program) == signal.SIGKILL
        if not checkpoint.list_checkpoints(
            folder / "checkpoints"
        ):  # Nothing to go on from: the run begins again.
            continue
        same(run(folder, iterations=8, resume=True, **settings), whole)
        assert numbers(folder) == numbers(tmp_path / "whole")
        assert files(folder) == needed(folder)  # nothing half-written, nothing unneeded
    assert moment > 9


@pytest.mark.parametrize("damage", ["missing", "cut", "exchanged", "another", "another run's"])
def test_a_file_that_is_missing_or_damaged_is_named_before_anything_is_touched(tmp_path, damage):
    folder = tmp_path / "run"
    run(folder)
    newest = checkpoint.load_newest(folder / "checkpoints")[1]
    name, other = newest["experience"][:2]
    path = folder / "checkpoints" / "experience" / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "another run's":
        generators = Generators(5)
        other = Replay(
            num_tasks=3,
            capacity=25,
            obs_size=2,
            action_space=gymnasium.spaces.Box(-1, 1, (2,)),
            device=CPU,
        )
        for _ in range(int(name.split("-")[1])):
            other.add(torch.tensor([0]), trajectories(generators("policy"), 1, 1, 6))
        (found,) = Shards(tmp_path / "other").write(other)
        path.write_bytes((tmp_path / "other" / "experience" / found).read_bytes())
    elif damage == "exchanged":
        path.write_bytes((path.parent / other).read_bytes())
    else:
        path.write_bytes(checkpoint.list_checkpoints(folder / "checkpoints")[0].read_bytes())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"{name}.* (is missing|damaged)"):
        run(folder, iterations=12, resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("names", [["../../evil.pt"], "a word", [7], ["/etc/passwd"]])
def test_names_that_are_none_of_ours_are_refused(tmp_path, names):
    run(tmp_path / "run")
    path, content, _ = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    checkpoint.save(path.parent, content | {"experience": names}, keep=3)
    with pytest.raises(
        UserError, match="the checkpoint's experience is .*; expected names of files of experience/"
    ):
        run(tmp_path / "run", iterations=12, resume=True)


def test_an_experience_of_another_size_is_refused(tmp_path):
    run(tmp_path / "run", capacity=12)
    with pytest.raises(
        UserError, match="experience in .*/experience doesn't fit: .* 3 tasks that keep 5 steps"
    ):
        run(tmp_path / "run", capacity=5, iterations=12, resume=True)


def test_checkpoints_that_lie_beside_their_config_go_on(tmp_path):
    whole = run(tmp_path / "whole", iterations=10)
    folder = tmp_path / "moved"
    run(folder)
    content = checkpoint.load_newest(folder / "checkpoints")[1]
    for path in (folder / "checkpoints").iterdir():
        path.rename(folder / path.name)
    (folder / "checkpoints").rmdir()
    generators = Generators(4)
    learner = Collector(generators)
    settings = {"run_folder": folder, "provenance": {}, "checkpoint_every": 2}
    train(learner, generators, iterations=10, resume_from=content, **settings)
    same(learner, whole)
    assert files(folder) == needed(folder)


def test_a_full_disk_keeps_the_last_checkpoint_and_its_files(tmp_path, monkeypatch):
    run(tmp_path / "run", iterations=4)
    before = checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]["experience"]
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(UserError, match="No space left on device"):
            Shards(tmp_path / "run" / "checkpoints").write(run(tmp_path / "other").experience)
    assert set(before) <= set(files(tmp_path / "run"))
    same(run(tmp_path / "run", resume=True), run(tmp_path / "whole"))


def test_memory_that_is_not_there_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    with pytest.raises(
        UserError, match="3 tasks × 25 transitions of 30 bytes: 2.2 KiB .* 1000 bytes are free"
    ):
        run(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    monkeypatch.setattr(memory, "available", lambda device: 10_000)
    run(tmp_path / "run")
    assert (
        "3 tasks × 25 transitions of 30 bytes: 2.2 KiB of memory on cpu, of 9.8 KiB free"
        in capsys.readouterr().err
    )


def test_free_memory_of_a_gpu_is_also_what_torch_keeps_for_later(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert memory.available(torch.device("cuda", 0)) == 130


def test_free_memory_is_what_the_system_says():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**20 < memory.available(CPU) <= total
    assert [memory.sized(size) for size in (0, 1023, 1536, 3 * 2**30)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "3.0 GiB",
    ]


class Killed(BaseException):
    """Nobody catches it, as nobody catches a signal."""


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_best_checkpoint_can_be_gone_on_from_whatever_comes_later(tmp_path, is_killed):
    """The scores rise up to iteration 6. The replay holds nothing of then in the end."""
    folder, kills = tmp_path / "run", [6] * is_killed
    folder.mkdir()

    def measure(learner):
        done = learner.state_dict()["done"]
        if done in kills:
            kills.remove(done)
            raise Killed
        return {"score": -abs(done - 6.0)}

    def going(resume_from):
        generators = Generators(4)
        train(
            Collector(generators, capacity=12),
            generators,
            iterations=20,
            run_folder=folder,
            provenance={},
            checkpoint_every=2,
            keep_checkpoints=1,
            held_out=HeldOut(every=2, measure=measure),
            resume_from=resume_from,
        )

    try:
        going(None)
    except Killed:
        going(checkpoint.load_newest(folder / "checkpoints")[1])
    best = checkpoint.load(folder / "checkpoints" / checkpoint.BEST)
    learner = Collector(Generators(0), capacity=12)
    learner.load_state_dict(best["learner"])
    Shards(folder / "checkpoints").load(learner.experience, best)
    same(learner, run(tmp_path / "six", iterations=6, capacity=12))
