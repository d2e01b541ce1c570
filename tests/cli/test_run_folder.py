"""Where runs live: a folder belongs to who made it, one process at a time writes there, and
whatever was begun can go on."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from support.commands import numbers

from metarl.cli import checkpoints, origins, run_config, run_folder
from metarl.cli.commands import fewshot as fewshot_command
from metarl.cli.commands import train as train_command
from metarl.errors import UserError
from metarl.report import finished
from metarl.run import checkpoint
from metarl.run.lock import NAME, FolderLock
from metarl.run.rows import read_rows

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *(
        "env=point_navigation_2d",
        "env.horizon=5",
        "algo.meta_batch_size=2",
        "algo.episodes_per_task=2",
    ),
    *(
        "model.hidden_sizes=[4]",
        "evaluation.num_tasks=2",
        "evaluation.num_updates=0",
        "evaluation.video=false",
    ),
    *("algo.num_inner_steps=1", "algo.num_epochs=1", "device=cpu", "checkpoint_every=1"),
]
SHOTS = [
    *(
        "dataset=sinusoid",
        "learner=reptile",
        "backbone.sizes=[4]",
        "learner.meta_batch_size=2",
        "device=cpu",
    ),
    *("evaluation.num_tasks=3", "evaluation.pictures=false", "checkpoint_every=1", "log_every=1"),
]


def call(command, monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["metarl", *map(str, words)])
    try:
        command.main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def train(monkeypatch, *words) -> int:
    return call(train_command, monkeypatch, *words)


def fewshot(monkeypatch, *words) -> int:
    return call(fewshot_command, monkeypatch, *words)


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 31, 12, 0, 0)

    monkeypatch.setattr(run_folder, "datetime", Clock)
    real, others = run_folder._made, []

    def made(folder, held):
        if not others:  # Another process makes this folder after we have chosen it.
            others.append(folder)
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text("another's")
        return real(folder, held)

    monkeypatch.setattr(run_folder, "_made", made)
    assert train(monkeypatch, *TINY, "iterations=1") == 0
    assert train(monkeypatch, *TINY, "iterations=1") == 0
    parent = tmp_path / "runs" / "point_navigation_2d" / "maml_ppo"
    name = others[0].name
    assert name.startswith("2026-01-31_12-00-00-") and name.endswith("-seed0")
    assert sorted(path.name for path in parent.iterdir()) == [name, f"{name}-2", f"{name}-3"]
    assert (parent / name / "config.yaml").read_text() == "another's"
    assert len(read_rows(parent / f"{name}-2" / "metrics.jsonl")) == 1
    composed = OmegaConf.load(parent / f"{name}-2" / "config.yaml").composed
    assert composed.choices.algo == "maml_ppo" and "hydra/launcher" not in composed.choices


def test_a_run_that_goes_on_elsewhere_is_not_resumed_and_one_that_is_over_is(
    tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    assert train(monkeypatch, *TINY, "iterations=2", f"run_dir={folder}") == 0
    assert not (folder / NAME).exists()
    before = (folder / "metrics.jsonl").read_bytes()
    with FolderLock(folder):
        for location in (
            folder,
            folder / "checkpoints",
            folder / "checkpoints" / "iteration_00000001.pt",
        ):
            assert train(monkeypatch, f"resume={location}", "iterations=4") == 2
            message = capsys.readouterr().err
            assert (
                f"{folder} is in use by process {os.getpid()} on" in message
                and "Traceback" not in message
            )
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert train(monkeypatch, f"resume={folder}", "iterations=3") == 0
    assert len(numbers(folder)) == 3


def test_a_new_run_does_not_go_where_another_begins(tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    with FolderLock(tmp_path / "run"):
        assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={tmp_path}/run") == 2
    assert "in use by process" in capsys.readouterr().err
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={tmp_path}/run") == 0


def test_a_training_holds_its_folder_until_its_evaluation_is_written(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        train_command.evaluation, "report_run", lambda *_: seen.append((folder / NAME).exists())
    )
    folder = tmp_path / "run"
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 0
    assert seen == [True] and not (folder / NAME).exists()


@pytest.mark.parametrize(("command", "sizes"), [(train_command, TINY), (fewshot_command, SHOTS)])
def test_an_evaluation_that_is_interrupted_is_made_up_for_as_it_says(
    tmp_path, monkeypatch, capsys, command, sizes
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    reports = (train_command.evaluation, fewshot_command.fewshot_report)
    with monkeypatch.context() as patch:
        for module in reports:
            patch.setattr(module, "report_run", interrupt)
        assert call(command, patch, *sizes, "iterations=1", f"run_dir={tmp_path}/run") == 130
    told = capsys.readouterr().err
    assert "the training is done; to evaluate it: python " in told
    (word,) = re.findall(r"resume=\S+", told)
    assert call(command, monkeypatch, word) == 0
    assert (tmp_path / "run/evaluation.json").exists()


@pytest.mark.parametrize(("command", "sizes"), [(train_command, TINY), (fewshot_command, SHOTS)])
def test_a_run_killed_before_its_first_checkpoint_is_begun_by_resume(
    tmp_path, monkeypatch, capsys, command, sizes
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    script = ROOT / "scripts" / f"{command.__name__.rpartition('.')[2]}.py"
    program = (
        "import os, runpy, signal, sys\n"
        "from metarl.run import checkpoint\n"
        "checkpoint.save = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    words = [*sizes, "seed=3", "iterations=3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, script, *words, f"run_dir={killed}"], env=environment
    )
    assert done.returncode == -signal.SIGKILL
    assert (killed / "config.yaml").exists() and not checkpoint.list_checkpoints(
        killed / "checkpoints"
    )
    assert call(command, monkeypatch, *words, f"run_dir={killed}") == 2
    assert f"go on with resume={killed}" in capsys.readouterr().err
    assert call(command, monkeypatch, f"resume={killed}", "iterations=4") == 0
    assert call(command, monkeypatch, *sizes, "seed=3", "iterations=4", f"run_dir={whole}") == 0
    assert numbers(killed) == numbers(whole) and len(numbers(killed)) == 4
    contents = [checkpoint.load_newest(folder / "checkpoints")[1] for folder in (killed, whole)]
    assert contents[0].get("learner_name") == contents[1].get("learner_name")
    # Where the checkpoints are lost there was more to lose than a beginning.
    shutil.rmtree(killed / "checkpoints")
    assert call(command, monkeypatch, f"resume={killed}") == 2
    assert f"no checkpoint at {killed}" in capsys.readouterr().err
    assert len(numbers(killed)) == 4


@pytest.mark.parametrize("location", ["", "iteration_00000002.pt"])
def test_a_checkpoint_that_lies_beside_its_config_is_gone_on_from(tmp_path, monkeypatch, location):
    assert train(monkeypatch, *TINY, "iterations=2", f"run_dir={tmp_path}/run") == 0
    published = tmp_path / "published"
    published.mkdir()
    for name in ("config.yaml", "checkpoints/iteration_00000002.pt"):
        shutil.copy(tmp_path / "run" / name, published)
    assert train(monkeypatch, f"resume={published / location}", "iterations=3") == 0
    assert [row["iteration"] for row in numbers(published)] == [2]


def test_a_folder_that_is_no_run_is_not_touched(tmp_path, monkeypatch, capsys):
    (tmp_path / "letters").mkdir()
    assert train(monkeypatch, f"resume={tmp_path}/letters") == 2
    assert f"no checkpoint at {tmp_path}/letters" in capsys.readouterr().err
    assert list((tmp_path / "letters").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["- 1\n", "seed: 1\n", "env: {\n", "\tseed: 1\n", "dataset: {}\nlearner: {}\n"]
)
def test_a_config_that_cannot_begin_a_run_is_named(tmp_path, monkeypatch, capsys, text):
    (tmp_path / "config.yaml").write_text(text)
    assert train(monkeypatch, f"resume={tmp_path}") == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}/config.yaml" in message and len(message.splitlines()) == 1


def test_a_schedule_that_follows_iterations_is_stretched_with_a_line(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert fewshot(monkeypatch, *SHOTS, "iterations=2", f"run_dir={folder}") == 0
    assert fewshot(monkeypatch, f"resume={folder}", "iterations=4") == 0
    assert "iterations=4, once 2: learner.decay_iterations moves with it" in capsys.readouterr().err
    assert fewshot(monkeypatch, f"resume={folder}", "iterations=8") == 0  # it still follows
    rate = numbers(folder)[0]["outer_lr"]
    # From 1 to 0 over 2, then over 4, then over 8 iterations.
    expected = [1, 1 / 2, 2 / 4, 1 / 4, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [row["outer_lr"] / rate for row in numbers(folder)] == pytest.approx(expected)
    assert OmegaConf.load(folder / "config.yaml").learner.decay_iterations == 8


def test_a_checkpoint_that_does_not_say_what_follows_iterations_goes_on(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert fewshot(monkeypatch, *SHOTS, "iterations=2", f"run_dir={folder}") == 0
    _, content, _ = checkpoint.load_newest(folder / "checkpoints")
    del content["follow_iterations"]
    checkpoint.save(folder / "checkpoints", content, keep=1)
    assert fewshot(monkeypatch, f"resume={folder}", "iterations=4") == 0
    assert all(row["outer_lr"] > 0 for row in numbers(folder))


def test_a_schedule_of_ones_own_that_is_over_too_soon_is_refused(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    words = (*SHOTS, "learner.decay_iterations=3", f"run_dir={folder}")
    assert fewshot(monkeypatch, *words, "iterations=4") == 2
    assert (
        "iterations=4: the learner's schedule ends after 3, and its rate is 0 from there on"
        in capsys.readouterr().err
    )
    assert not folder.exists()
    assert (
        fewshot(monkeypatch, *words, "iterations=2", "log_every=2") == 2
    )  # nor do rows that straddle checkpoints leave one
    assert not folder.exists()
    assert fewshot(monkeypatch, *words, "iterations=2") == 0
    assert fewshot(monkeypatch, f"resume={folder}", "iterations=4") == 2
    assert "ends after 3" in capsys.readouterr().err
    assert (
        fewshot(monkeypatch, f"resume={folder}", "iterations=3") == 0
    )  # what isn't tied stays as it was
    rows = numbers(folder)
    assert [row["outer_lr"] / rows[0]["outer_lr"] for row in rows] == pytest.approx(
        [1, 2 / 3, 1 / 3]
    )


def test_evaluating_an_older_checkpoint_again_leaves_the_run_as_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert train(monkeypatch, *TINY, "iterations=3", f"run_dir={folder}") == 0
    kept = (
        "config.yaml",
        "metrics.jsonl",
        *(f"checkpoints/iteration_0000000{number}.pt" for number in (1, 2, 3)),
    )
    before = [(folder / name).read_bytes() for name in kept]
    older = folder / "checkpoints" / "iteration_00000001.pt"
    assert train(monkeypatch, f"resume={older}", "iterations=1") == 0
    assert [(folder / name).read_bytes() for name in kept] == before
    assert json.loads((folder / "evaluation.json").read_text())["iteration"] == 1


def git(folder: Path, *words: str) -> str:
    command = [
        "git",
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-C",
        str(folder),
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def checkout(root: Path, *, package: Path) -> Path:
    """A git repository with metarl's package in a place of it."""
    (package / "metarl").mkdir(parents=True)
    (package / "metarl" / "__init__.py").write_text("")
    (root / "README").write_text("a project")
    git(root, "init", "-q")
    git(root, "add", "README")
    git(root, "commit", "-qm", "Begin")
    return package / "metarl" / "__init__.py"


def commit_of(monkeypatch, file: Path) -> str | None:
    monkeypatch.setattr(origins.metarl, "__file__", str(file))
    origins.commit_in.cache_clear()  # What it answers is that of the process's beginning.
    return origins.commit()


def test_the_commit_is_that_of_our_own_checkout(tmp_path, monkeypatch):
    file = checkout(tmp_path, package=tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "metarl"\n')
    assert commit_of(monkeypatch, file) is None  # git doesn't know these files
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "Add metarl")
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert commit_of(monkeypatch, file) == head
    (tmp_path / "README").write_text("changed")
    assert commit_of(monkeypatch, file) == f"{head}-dirty"


def test_git_is_asked_for_it_once_in_a_process(tmp_path, monkeypatch):
    commit = commit_of(monkeypatch, checkout(tmp_path, package=tmp_path))
    monkeypatch.setattr(origins, "_git", None)
    assert origins.commit() == commit


@pytest.mark.parametrize("place", [".venv/lib/python3.11/site-packages", ".", "third_party"])
@pytest.mark.parametrize("added", [False, True])
def test_the_commit_of_a_project_that_only_uses_metarl_is_not_ours(
    tmp_path, monkeypatch, place, added
):
    file = checkout(tmp_path, package=tmp_path / place)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "thesis"\ndependencies = ["metarl"]\n'
    )
    if added:
        git(tmp_path, "add", "-f", ".")
        git(tmp_path, "commit", "-qm", "Add everything")
    assert commit_of(monkeypatch, file) is None


def test_a_repository_that_a_hook_is_about_is_not_taken_for_ours(tmp_path, monkeypatch):
    other, ours = tmp_path / "other", tmp_path / "ours"
    checkout(other, package=other)
    file = checkout(ours, package=ours)
    (ours / "pyproject.toml").write_text('[project]\nname = "metarl"\n')
    git(ours, "add", ".")
    git(ours, "commit", "-qm", "Add metarl")
    head = git(ours, "rev-parse", "--short=12", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert commit_of(monkeypatch, file) == head


def test_an_unpacked_metarl_has_no_commit(tmp_path, monkeypatch):
    (tmp_path / "metarl").mkdir()
    assert commit_of(monkeypatch, tmp_path / "metarl" / "__init__.py") is None


def test_an_evaluation_of_before_is_not_that_of_a_run_that_goes_on(tmp_path, monkeypatch):
    """Else a comparison would take it for the end of the longer run."""
    folder = tmp_path / "run"
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 0
    before = (folder / "evaluation.json").read_text()
    with monkeypatch.context() as patched:
        patched.setattr("metarl.run.training.Training.row", _die)
        assert train(monkeypatch, f"resume={folder}", "iterations=3") != 0
    assert not (folder / "evaluation.json").exists()
    assert (folder / "evaluation_iteration_1.json").read_text() == before
    assert not finished.all_runs(finished.configs_below([folder]))[0]
    assert train(monkeypatch, f"resume={folder}") == 0
    assert json.loads((folder / "evaluation.json").read_text())["iteration"] == 3


def _die(*_):
    raise MemoryError


def test_an_experiment_cannot_be_given_to_a_run_that_goes_on(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 0
    words = (f"resume={folder}", "iterations=2", "experiment=bandit_500_5_rl2")
    assert train(monkeypatch, *words) == 2
    assert "experiment can't be given with resume" in capsys.readouterr().err


def test_a_run_that_goes_on_keeps_the_names_of_what_was_chosen(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 0
    read = lambda: OmegaConf.load(folder / "config.yaml").composed.choices
    before = read()
    assert train(monkeypatch, f"resume={folder}", "iterations=2") == 0
    assert read() == before and before.env == "point_navigation_2d"


def test_what_has_changed_since_the_checkpoint_is_said_and_kept(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    commits = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    monkeypatch.setattr(origins, "commit", lambda: commits[0])
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 0
    read = lambda: OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))["composed"]
    assert read()["commits"] == commits[:1]
    capsys.readouterr()
    assert train(monkeypatch, f"resume={folder}", "iterations=2") == 0
    said = capsys.readouterr().err
    assert "changed since" not in said and "by hand" not in said
    monkeypatch.setattr(origins, "commit", lambda: commits[1])
    versions = origins.versions()
    monkeypatch.setattr(origins, "versions", lambda: versions | {"torch": "9.9"})
    file = folder / "config.yaml"
    file.write_text(file.read_text().replace("horizon: 5", "horizon: 6"))
    for left in (".config.yaml.a1.tmp", ".metrics.jsonl.b2.tmp"):
        (folder / left).touch()
    assert train(monkeypatch, f"resume={folder}", "iterations=3") == 0
    said = capsys.readouterr().err
    assert "metarl's commit (then aaaaaaaaaaaa, now bbbbbbbbbbbb), torch (then" in said
    assert "config.yaml was changed by hand (env.horizon); the checkpoint's values hold" in said
    assert read()["commits"] == commits and not list(folder.glob(".*.tmp"))
    assert OmegaConf.load(file).env.horizon == 5


@pytest.mark.parametrize(
    "word", ["a=${b", r"a=\${b}", "a=b && c", r"a='\\${b'", "a=${b:'c d'}", "a=b c"]
)
def test_commands_are_kept_as_they_were_called(tmp_path, monkeypatch, word):
    """Though OmegaConf would read a ${ in them."""
    monkeypatch.setattr(sys, "argv", ["metarl-train", word])
    file = tmp_path / "config.yaml"
    first = run_config.made_by(file)
    assert first == [f"metarl-train {shlex.quote(word)}"]
    config = OmegaConf.create({"env": {}, "algo": {}, "iterations": 1, "seed": 0})
    file.write_text(run_config.as_yaml(config, {"algo": "x"}, first))
    assert run_config.made_by(file) == first
    assert run_config.choices_in(file) == {"algo": "x"}
    changed = SimpleNamespace(overrides=SimpleNamespace(task=["resume=r", "iterations=2"]))
    monkeypatch.setattr(run_config.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(run_config.HydraConfig, "get", lambda: changed)
    monkeypatch.setattr(sys, "argv", ["metarl-train", "resume=r", "iterations=2"])
    both = [*first, "metarl-train resume=r iterations=2"]
    assert run_config.made_by(file) == both
    longer = [*both, "metarl-train resume=r iterations=3"]
    file.write_text(run_config.as_yaml(config, {}, longer))
    assert run_config.made_by(file) == [*longer, both[-1]]  # back to an earlier end
    file.write_text(run_config.as_yaml(config, {}, both))
    assert run_config.made_by(file) == both
    # A seed that begins only now was begun by what began all.
    assert run_config.made_by(tmp_path / "seed1/config.yaml") == both
    file.write_text(run_config.as_yaml(config, {}, first))
    changed.overrides.task = ["resume=r"]
    monkeypatch.setattr(sys, "argv", ["metarl-train", "resume=r"])
    assert run_config.made_by(file) == first


def test_a_run_folder_of_a_strangers_has_no_say_over_files_elsewhere(tmp_path, monkeypatch, capsys):
    """Neither by the words in it nor by its links."""
    folder, home = tmp_path / "run", tmp_path / "home"
    home.mkdir()
    (home / "settings.json").write_text("mine")
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 0
    report = json.loads((folder / "evaluation.json").read_text())
    way_out = json.dumps(report | {"iteration": "x/../../home/settings"})
    (folder / "evaluation_iteration_x").mkdir()
    (folder / "evaluation.json").write_text(way_out)
    assert train(monkeypatch, f"resume={folder}", "iterations=2") == 0
    assert (folder / "evaluation_iteration_unknown.json").read_text() == way_out
    for name in ("metrics.jsonl", "run.log", "config.yaml", "checkpoints"):
        kept, place = folder / f"{name}.kept", folder / name
        place.rename(kept)
        place.symlink_to(kept)  # inside, it may be
        run_folder.refuse_links_out(folder)
        place.unlink()
        place.symlink_to(home if name == "checkpoints" else home / "settings.json")
        with pytest.raises(UserError, match=f"{name} is a link to .*home.*, outside of the run's"):
            run_folder.refuse_links_out(folder)
        place.unlink()
        kept.rename(place)
    (folder / "seed0").mkdir()
    (folder / "seed0/run.log").symlink_to(home / "settings.json")
    with pytest.raises(UserError, match=r"seed0/run.log is a link to"):
        run_folder.refuse_links_out(folder)
    (folder / "seed0/run.log").unlink()
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").symlink_to(home / "settings.json")
    capsys.readouterr()
    assert train(monkeypatch, f"resume={folder}", "iterations=3") == 2
    assert "metrics.jsonl is a link to" in capsys.readouterr().err
    assert (home / "settings.json").read_text() == "mine"
    assert [path.name for path in home.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("command", ["train", "fewshot"])
def test_a_newest_checkpoint_that_was_renamed_is_missed(command, tmp_path, monkeypatch, capsys):
    begin, words = (train, TINY) if command == "train" else (fewshot, SHOTS)
    run = tmp_path / "run"
    assert begin(monkeypatch, *words, "iterations=3", f"run_dir={run}") == 0
    files = run / "checkpoints"
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert checkpoints.read(str(run)).warnings == []
    (files / "iteration_00000003.pt").rename(files / "kept.pt")
    told = (
        f"{files} has no checkpoint of iteration 3, to which metrics.jsonl goes (other files there: "
        "kept.pt); the newest is of iteration 2"
    )
    assert checkpoints.read(str(run)).warnings == [told]
    capsys.readouterr()
    assert begin(monkeypatch, f"resume={run}") == 0
    assert told in capsys.readouterr().err
    assert checkpoints.read(str(run)).warnings == []
    # A run that was killed between two checkpoints has rows that none belongs to.
    (copy / "checkpoints/iteration_00000003.pt").unlink()
    file = copy / "config.yaml"
    text = file.read_text().replace("checkpoint_every: 1", "checkpoint_every: 2")
    file.write_text(text.replace("iterations: 3", "iterations: 4"))
    assert checkpoints.read(str(copy)).warnings == []
