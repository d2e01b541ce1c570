"""Evaluations on held-out tasks while a run goes, with a learner that is nothing but a random walk:
they change no number of it, none is lost, and the best checkpoint is kept."""

import errno
import os
import signal
from pathlib import Path

import pytest
from support.walker import Walker, measured, rows

from metarl.errors import SettingError, UserError
from metarl.run import checkpoint
from metarl.run.held_out import Best, HeldOut
from metarl.run.log import RunLog
from metarl.run.seeding import Generators
from metarl.run.together import train_together
from metarl.run.train import train
from metarl.run.training import Training


class Killed(BaseException):
    """Nobody catches it, as nobody catches a signal."""


def run(folder, *, every=3, iterations=10, resume=False, measure=measured, **settings):
    generators = Generators(26)
    learner = Walker(generators)
    held_out = None if every is None else HeldOut(every=every, measure=measure)
    found = checkpoint.load_newest(folder / "checkpoints")[1] if resume else None
    folder.mkdir(exist_ok=True)
    more = {"provenance": {}, "checkpoint_every": 4, "resume_from": found, **settings}
    return train(
        *(learner, generators),
        iterations=iterations,
        run_folder=folder,
        held_out=held_out,
        **more,
    )


def best(folder):
    content = checkpoint.load(checkpoint.resolve(folder / "best"))
    return content["iteration"], content["learner"]["x"], content["held_out"]["score"]


def test_evaluations_come_every_so_often_and_at_the_end(tmp_path):
    run(tmp_path / "run")
    found = rows(tmp_path / "run", "evaluations")
    assert [row["iteration"] for row in found] == [3, 6, 9, 10]
    assert [row["env_steps"] for row in found] == [30, 60, 90, 100]


def test_they_change_no_number_of_the_training(tmp_path):
    run(tmp_path / "with")
    run(tmp_path / "without", every=None)
    assert rows(tmp_path / "with", "metrics") == rows(tmp_path / "without", "metrics")
    assert not (tmp_path / "without" / "evaluations.jsonl").exists()
    assert not (tmp_path / "without" / "checkpoints" / "best.pt").exists()


def test_the_best_state_is_kept_whatever_comes_later(tmp_path):
    run(tmp_path / "run", keep_checkpoints=1)
    found = rows(tmp_path / "run", "evaluations")
    scores = [row["score"] for row in found]
    assert scores.index(max(scores)) == 1  # else the test would show little
    iteration, x, score = best(tmp_path / "run")
    assert (iteration, score) == (6, max(scores)) and x.sum().item() == score
    assert [path.stem for path in checkpoint.list_checkpoints(tmp_path / "run/checkpoints")] == [
        "iteration_00000010"
    ]


@pytest.mark.parametrize("moment", ["measure", "best", "row"])
@pytest.mark.parametrize("iteration", [3, 6, 9, 10])
def test_a_run_killed_at_an_evaluation_goes_on_to_the_same_files(
    tmp_path, monkeypatch, moment, iteration
):
    def measure(learner):
        if moment == "measure" and learner.count == iteration:
            raise Killed
        return measured(learner)

    def dying(real):
        def die(place, content):
            if content["iteration"] == iteration:
                raise Killed
            return real(place, content)

        return die

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole)
    with monkeypatch.context() as patch:
        if moment == "best":
            patch.setattr(checkpoint, "save_best", dying(checkpoint.save_best))
        elif moment == "row":
            patch.setattr(RunLog, "write_evaluation", dying(RunLog.write_evaluation))
        try:
            run(killed, measure=measure)
        except Killed:
            assert rows(killed, "evaluations") != rows(whole, "evaluations")
        else:  # That state wasn't the best one.
            assert moment == "best" and iteration > 6
    run(killed, resume=True)
    for name in ("metrics", "evaluations"):
        assert rows(killed, name) == rows(whole, name)
    assert str(best(killed)) == str(best(whole))


def test_going_back_before_the_best_state_removes_it(tmp_path, capsys):
    run(tmp_path / "run", keep_checkpoints=9)
    older = checkpoint.load(tmp_path / "run/checkpoints/iteration_00000004.pt")
    run(tmp_path / "run", resume_from=older, iterations=5)
    assert "best.pt removed" in capsys.readouterr().err
    assert [row["iteration"] for row in rows(tmp_path / "run", "evaluations")] == [3, 5]
    assert best(tmp_path / "run")[0] == 5  # what came before lies nowhere


def test_a_best_state_that_was_measured_otherwise_is_measured_anew(tmp_path, capsys):
    """Measured by a half, what comes later would never be as good as the number that the best one
    has from before."""
    folder = tmp_path / "run"
    folder.mkdir()
    asked = ((9, 1.0, "whole", False), (10, 1.0, "whole", False), (12, 0.5, "half", True))
    for iterations, factor, settings, is_told in asked:
        measure = lambda learner, factor=factor: {
            "score": factor * learner.state_dict()["x"].sum().item()
        }
        generators = Generators(26)
        train(
            Walker(generators),
            generators,
            iterations=iterations,
            run_folder=folder,
            provenance={},
            checkpoint_every=3,
            held_out=HeldOut(every=3, measure=measure, settings=settings),
            resume_from=checkpoint.load_newest(folder / "checkpoints")[1]
            if iterations > 9
            else None,
        )
        assert ("is measured anew" in capsys.readouterr().err) == is_told
    _, x, score = best(folder)
    *before, last = rows(folder, "evaluations")
    assert last["iteration"] == 12
    assert score == 0.5 * x.sum().item()
    assert score == max(last["score"], *(0.5 * row["score"] for row in before))


def test_a_damaged_best_state_is_no_obstacle(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"damaged")
    found = Best(tmp_path, 5)
    assert found.removed and not (tmp_path / "best.pt").exists()
    assert found.keep_if_better({"iteration": 5}, {"score": -1e9})
    assert not Best(tmp_path, 5).removed
    assert Best(tmp_path, 4).removed


def test_a_best_state_that_cannot_be_read_now_stays(tmp_path, monkeypatch):
    Best(tmp_path, 5).keep_if_better({"iteration": 5}, {"score": 1.0})

    def fails(self):
        raise OSError(errno.EIO, "Input/output error", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        with pytest.raises(UserError, match="can't read the checkpoint .*best.pt: Input/output"):
            Best(tmp_path, 5)
    assert not Best(tmp_path, 5).removed


def test_a_best_state_that_has_no_score_any_more_is_said_and_the_run_goes_on(tmp_path, capsys):
    run(tmp_path / "run")

    def measure(learner):
        if learner.state_dict()["count"] < 12:
            raise FloatingPointError("return is nan")
        return measured(learner)

    newest = checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]
    held_out = HeldOut(every=3, measure=measure, settings="otherwise")
    generators = Generators(26)
    train(
        Walker(generators),
        generators,
        iterations=12,
        run_folder=tmp_path / "run",
        provenance={},
        checkpoint_every=4,
        held_out=held_out,
        resume_from=newest,
    )
    said = capsys.readouterr().err
    assert "the best checkpoint has no score that way (return is nan), so the next one" in said
    assert best(tmp_path / "run")[0] == 12


def test_a_later_tie_does_not_replace_the_best_state(tmp_path):
    found = Best(tmp_path, 0)
    assert found.keep_if_better({"iteration": 1}, {"score": 2.0})
    assert not found.keep_if_better({"iteration": 2}, {"score": 2.0})
    assert checkpoint.load(tmp_path / "best.pt")["iteration"] == 1


def test_an_evaluation_that_fails_is_said_and_the_training_goes_on(tmp_path, capsys):
    def measure(learner):
        if learner.count == 6:
            raise FloatingPointError("return is nan")
        return measured(learner)

    assert run(tmp_path / "run", measure=measure).iteration == 10
    assert [row["iteration"] for row in rows(tmp_path / "run", "evaluations")] == [3, 9, 10]
    assert "no evaluation after iteration 6: return is nan" in capsys.readouterr().err


def test_rows_of_several_iterations_meet_evaluations_and_checkpoints_after_ctrl_c(tmp_path):
    """The row that Ctrl-C ends early is followed by one up to the next multiple."""

    def stop(learner):
        if learner.count == 7:
            os.kill(os.getpid(), signal.SIGINT)

    sizes = {"every": 6, "iterations": 20, "log_every": 3, "checkpoint_every": 6}
    Walker.special, before = stop, Walker.special
    try:
        assert run(tmp_path / "run", **sizes).iteration == 7
    finally:
        Walker.special = before
    run(tmp_path / "run", resume=True, **sizes)
    assert [row["iteration"] for row in rows(tmp_path / "run", "metrics")] == [
        *(2, 5, 6, 8, 11, 14, 17, 19)
    ]
    assert [row["iteration"] for row in rows(tmp_path / "run", "evaluations")] == [6, 12, 18, 20]
    with pytest.raises(SettingError, match="log_every=3: expected a divisor of eval_every=4"):
        run(tmp_path / "other", every=4, log_every=3, checkpoint_every=6)


def several(folder, *, iterations=6, seeds=(0, 1, 2), measure=measured):
    trainings = []
    for seed in seeds:
        own = folder / f"seed{seed}"
        own.mkdir(parents=True, exist_ok=True)
        generators, saved = Generators(seed), own / "checkpoints"
        newest = checkpoint.load_newest(saved)[1] if saved.exists() else None
        trainings.append(
            Training(
                *(Walker(generators), generators),
                iterations=iterations,
                run_folder=own,
                provenance={},
                checkpoint_every=2,
                held_out=HeldOut(every=2, measure=measure),
                resume_from=newest,
            )
        )
    spread = lambda values: (min(values), max(values))
    return train_together(trainings, lambda asked: asked, folder=folder, interval=spread)


def test_several_seeds_say_together_what_each_says(tmp_path):
    several(tmp_path)
    of_each = [rows(tmp_path / f"seed{seed}", "evaluations") for seed in range(3)]
    found = rows(tmp_path, "evaluations")
    assert [row["iteration"] for row in found] == [2, 4, 6] and len(of_each[0]) == 3
    for k, row in enumerate(found):
        values = [own[k]["value"] for own in of_each]
        assert row["value"] == pytest.approx(sum(values) / 3)
        assert (row["value_ci_low"], row["value_ci_high"]) == (min(values), max(values))
        assert row["num_seeds"] == 3 and "score_ci_low" not in row


@pytest.mark.parametrize("after", [2, 5, 7, 9])
def test_several_killed_at_an_evaluation_go_on_to_the_same_files(tmp_path, after):
    whole, killed, count = tmp_path / "whole", tmp_path / "killed", 0

    def measure(learner):
        nonlocal count
        count += 1
        if count == after:
            raise Killed
        return measured(learner)

    several(whole)
    with pytest.raises(Killed):
        several(killed, measure=measure)
    several(killed)
    for place in ("", "seed0", "seed1", "seed2"):
        for name in ("metrics", "evaluations"):
            assert rows(killed / place, name) == rows(whole / place, name), (place, name)


def test_several_killed_before_the_last_row_of_all_have_it_in_the_end(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    several(whole)
    several(killed)
    lines = (killed / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (killed / "evaluations.jsonl").write_text("".join(lines[:-1]))
    several(killed)
    assert rows(killed, "evaluations") == rows(whole, "evaluations")
    before = {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()}
    several(killed)
    assert {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()} == before
