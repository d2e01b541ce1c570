"""The command line: mistakes end with a short message and exit code 2, bugs keep their traceback,
help is read from configs.

Examples:
  python scripts/fly.py seed=3
"""

import ast
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from support.commands import refused

import envs
from metarl.cli import configs, sweep, words
from metarl.cli import main as cli
from metarl.cli.commands import train
from metarl.cli.helptext import help_text
from metarl.cli.overrides import check_overrides
from metarl.errors import UserError

CONFIGS = {
    "fly.yaml": """
        defaults:
          - wing: long
          - pilot: null     # who flies
          - experiment: null  # a known flight
          - _self_

        seed: 0           # where randomness starts
        gust: 0.5         # m/s
        steps: [10, 20]
        calm: false
        # The highest altitude
        # in metres.
        ceiling: 300.0
        device: auto
        limit: 5          # seconds; null: none
        landing:
          site: null      # a place
        """,
    "glide.yaml": """
        checkpoint: ???   # a run folder
        seed: 0
        """,
    "wing/long.yaml": """
        # A long wing.
        span: 2.0         # m
        feathers: 12
        """,
    "wing/short.yaml": """
        defaults:
          - long
        span: 1.0         # m, folded
        """,
    "wing/soft.yaml": """
        flaps: 2
        """,
    "experiment/hover.yaml": """
        # @package _global_
        defaults:
          - override /wing: soft
        wing:
          flaps: 3
        """,
    "experiment/glide.yaml": """
        # @package _global_
        defaults:
          - override /wing: long
        wing:
          tip: bent
        """,
    "pilot/kim.yaml": """
        # @package _global_
        gust: 0.1
        """,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configs")
    for name, text in CONFIGS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        lines = text.strip("\n").splitlines()
        (folder / name).write_text("\n".join(line[8:] for line in lines))
    return folder


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a command of the config `fly` in an empty folder; returns the configurations that it ran
    with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(
        *arguments: str, run: Any = lambda config: None, command: str = "fly"
    ) -> list[DictConfig]:
        seen: list[DictConfig] = []

        def recorded(config: DictConfig) -> None:
            seen.append(config)
            run(config)

        monkeypatch.setattr(sys, "argv", [f"{command}.py", *arguments])
        cli.run_command(command, recorded, configs=folder)
        return seen

    return call


def message_of(
    call: Any, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2, **options: Any
) -> str:
    """What a call that fails prints on stderr."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments, **options)
    assert stop.value.code == code
    return capsys.readouterr().err


def test_overrides_reach_the_command(call: Any) -> None:
    (config,) = call(
        "seed=3", "wing=short", "wing.feathers=7", "gust=1", "steps=[1]", "landing.site=Oslo"
    )
    assert (config.seed, config.wing.span, config.wing.feathers, config.gust) == (3, 1.0, 7, 1)
    assert (list(config.steps), config.landing.site) == ([1], "Oslo")


def test_nothing_but_the_commands_own_files_is_written(call: Any, tmp_path: Path) -> None:
    call("seed=1")
    assert list(tmp_path.iterdir()) == []


def test_sweep_runs_every_value_and_keeps_one_record(call: Any, tmp_path: Path) -> None:
    seen = call("-m", "seed=1,2", "wing=long,short")
    assert [(config.seed, config.wing.span) for config in seen] == [
        (1, 2.0),
        (1, 1.0),
        (2, 2.0),
        (2, 1.0),
    ]
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["multirun.yaml"]


def test_flags_may_stand_anywhere(call: Any) -> None:
    assert [config.gust for config in call("gust=2.0", "-m", "seed=1,2")] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "wing=lnog",
            "wing=lnog: there is no wing of that name; did you mean long?\nwing is one of: long, "
            "short, soft",
        ),
        (
            "wing.spam=1",
            "wing.spam: there is no such key; did you mean wing.span?\nwing has: feathers, span",
        ),
        ("span=1", "span: there is no such key; did you mean wing.span?"),
        ("sede=1", "sede: there is no such key; did you mean seed?\nthe keys are: calm,"),
        ("~sede", "sede: there is no such key"),
        ("seed.x=1", "seed.x: seed is a single value (0) and has no keys"),
        ("wing.span=abc", "wing.span=abc: expected a number; the default is 2.0"),
        (
            "seed=1.5",
            "seed=1.5: expected an integer from 0 to 9223372036854775807; the default is 0",
        ),
        ("seed=true", "seed=true: expected an integer"),
        ("calm=1", "calm=1: expected true or false"),
        ("device=1", "device=1: expected cpu, cuda, cuda:<number> or auto; the default is auto"),
        ("steps=3", "steps=3: expected a list with an integer at each place; write steps=[3]"),
        ("steps=[1,b]", "steps=[1,b]: expected a list"),
        ("seed=null", "seed=null: expected an integer"),
        ("limit=x", "limit=x: expected an integer or null"),
        (
            "seed=1,2",
            "seed=1,2: several values need -m (a run for each); a list is written seed=[1,2]",
        ),
        ("landing=(", "landing=(: not of the form name=value"),
        ("--seed", "--seed: expected name=value, for instance seed=1"),
        ("fast", "fast: expected name=value, for instance fast=1"),
    ],
)
def test_mistake_is_named_with_what_is_allowed(
    call: Any, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    error = message_of(call, capsys, argument, run=lambda config: pytest.fail("ran"))
    assert error.startswith(f"error: {message}")
    assert "Traceback" not in error


def test_an_interval_is_for_another_sweeper(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    error = message_of(call, capsys, "-m", "seed=interval(1,5)")
    assert error.startswith(
        "error: seed=interval(1,5): Hydra's own sweeper can't draw from an interval; expected values"
    )


def test_experiments_setting_that_another_choice_lacks_is_named(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("experiment=hover")[0].wing == {"flaps": 3}
    message = "experiment=hover sets wing.flaps, which wing=long does not have: say '~wing.flaps' to leave it out"
    assert message in message_of(call, capsys, "experiment=hover", "wing=long")
    assert call("experiment=hover", "wing=long", "~wing.flaps")[0].wing == {
        "span": 2.0,
        "feathers": 12,
    }


def test_an_experiment_may_add_a_key_to_its_own_choice_alone(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("experiment=glide")[0].wing == {"span": 2.0, "feathers": 12, "tip": "bent"}
    assert "tip" not in call("experiment=glide", "~wing.tip")[0].wing
    message = "experiment=glide sets wing.tip, which wing=short does not have: say '~wing.tip'"
    assert message in message_of(call, capsys, "experiment=glide", "wing=short")


def test_every_value_of_a_sweep_is_checked(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert "seed=b: expected an integer" in message_of(call, capsys, "-m", "seed=1,b")
    assert "wing=shrot: there is no wing" in message_of(call, capsys, "-m", "wing=long,shrot")


def test_glob_sweeps_over_the_choices_that_fit_and_these_are_checked(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(call("-m", "wing=glob(*)")) == 3
    assert "wing=glob(x*): fits no wing\nwing is one of: long, short, soft" in message_of(
        call, capsys, "-m", "wing=glob(x*)"
    )
    assert "seed=b: expected an integer" in message_of(
        call, capsys, "-m", "wing=glob(l*)", "seed=b"
    )


@pytest.mark.parametrize(
    "argument",
    [
        "landing.site=null",
        "limit=null",
        "landing.site=3",
        "wing.span=1e-3",
        "+new=1",
        "~calm",
        "pilot=kim",
    ],
)
def test_what_is_allowed_passes(call: Any, argument: str) -> None:
    assert len(call(argument)) == 1


def test_value_without_default_is_asked_for(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        message_of(call, capsys, "seed=1", command="glide")
        == "error: checkpoint=... is missing: a run folder\n"
    )
    assert len(call("checkpoint=runs/a", command="glide")) == 1


def test_group_of_another_command_is_refused(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert "wing=long: glide has no wing" in message_of(
        call, capsys, "checkpoint=a", "wing=long", command="glide"
    )


def test_config_dir_adds_choices(call: Any, tmp_path: Path) -> None:
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing" / "bent.yaml").write_text("span: 9.0\n")
    assert call("--config-dir", str(tmp_path), "wing=bent")[0].wing.span == 9.0


@pytest.mark.parametrize("name", ["Übung (1)", "a,b", "a=b", "it's", "[x] {y}", "50 % $HOME", "~x"])
def test_config_dir_may_have_any_name(call: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name / "wing").mkdir(parents=True)
    (tmp_path / name / "wing" / "bent.yaml").write_text("span: 9.0\n")
    assert call("--config-dir", name, "wing=bent")[0].wing.span == 9.0
    assert call("--config-dir", f"{tmp_path}/{name}", "wing=bent", "wing.span=2")[0].wing.span == 2


def test_config_dir_that_is_not_there_is_said(
    call: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        message_of(call, capsys, "--config-dir", "mine")
        == "error: --config-dir mine: there is no such folder\n"
    )
    (tmp_path / "mine").write_text("")
    assert (
        message_of(call, capsys, "--config-dir", "mine")
        == "error: --config-dir mine: is no folder\n"
    )


def test_config_dir_that_holds_no_configs_is_said(
    call: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine" / "configs" / "wing").mkdir(parents=True)
    said = message_of(call, capsys, "--config-dir", "mine")
    assert "mine: holds no configs; expected a folder laid out as configs/" in said


def test_a_config_with_the_name_of_one_of_ours_is_refused(
    call: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine" / "wing").mkdir(parents=True)
    (tmp_path / "mine" / "wing" / "long.yaml").write_text("span: 9.0\n")
    said = message_of(call, capsys, "--config-dir", "mine")
    assert said == (
        "error: --config-dir mine: wing/long.yaml has the name of one of metarl's, which would be "
        "taken instead of it; expected another, as wing/my_long.yaml\n"
    )


def test_code_of_ones_own_is_named_in_a_config(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(monkeypatch, capsys, train, "env=my_envs:hopper")
    assert "code of your own is named in a config, env/<name>.yaml in a folder for" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "my_lost_learner.Maml",
            "there is no module my_lost_learner on Python's path; PYTHONPATH=",
        ),
        (
            "my_broken_learner.Maml",
            "my_broken_learner can't be imported: NameError: name 'x' is not",
        ),
        ("my_needy_learner.Maml", "my_needy_learner can't be imported: No module named 'not_here'"),
        ("my_learner_of_another_name.Maml", "my_learner_of_another_name has no Maml"),
        (
            "my_learner_of_another_name.Reptile",
            "has no sizes; expected a learner that says how many",
        ),
        (".Maml", "expected the full name of a function or class"),
        ("Maml", "expected the full name of a function or class"),
    ],
)
def test_why_code_of_ones_own_cannot_be_had_is_said(
    name: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_broken_learner.py").write_text("x\n")
    (tmp_path / "my_needy_learner.py").write_text("import not_here\n")
    (tmp_path / "my_learner_of_another_name.py").write_text("class Reptile: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    shown = refused(monkeypatch, capsys, train, "env=bandit", f"algo._target_={name}")
    assert f"error: algo._target_={name}: {said}" in shown


def test_help_has_the_whole_of_a_comment() -> None:
    """Which may go on below, as do those beside keys of algo/maml_ppo.yaml."""
    text = " ".join(help_text("train", "", ["algo=maml_ppo"], [configs.CONFIGS]).split())
    assert "it stays, and a long training slides back. More iterations want a longer one" in text
    file = configs.CONFIGS / "algo" / "maml_ppo.yaml"
    beside = [line for line in file.read_text().splitlines() if re.match(r" +#", line)]
    assert len(beside) > 1
    assert all(line.strip("# ") in text for line in beside)


def test_help_has_the_comments_of_a_config_of_ours_that_a_users_builds_on(tmp_path: Path) -> None:
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "mine.yaml").write_text("defaults:\n  - reptile\ninner_lr: 0.3  # more\n")
    text = help_text("train", "", ["algo=mine"], [configs.CONFIGS, tmp_path])
    (line,) = (line for line in text.splitlines() if "algo.meta_batch_size=" in line)
    assert "tasks per iteration" in line
    assert "more" in text


BROKEN = {
    "tab": (b"span: 1.0\n\tfeathers: 3\n", "line 2: not YAML: found character"),
    "latin": ("span: 1.0  # für\n".encode("latin-1"), "expected a text in UTF-8; byte 14 isn't"),
    "bracket": (b"span: [1.0\n", "line 2: not YAML: expected ',' or ']'"),
    "twice": (b"span: 1.0\nspan: 2.0\n", "line 2: not YAML: found duplicate key span"),
    "list": (b"- span\n", "expected keys and values, found ['span']"),
    "base": (b"defaults:\n  - tab\n", "line 2: not YAML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_yaml_file_that_cannot_be_read_is_named_and_harms_no_other(
    call: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "mine" / "wing").mkdir(parents=True)
    for broken, (content, _) in BROKEN.items():
        (tmp_path / "mine" / "wing" / f"{broken}.yaml").write_bytes(content)
    (tmp_path / "mine" / "wing" / "bent.yaml").write_text("span: 9.0\n")
    assert call("--config-dir", "mine", "wing=bent")[0].wing.span == 9.0
    assert call("--config-dir", "mine")[0].wing.span == 2.0
    call("--config-dir", "mine", "--help")
    assert name in capsys.readouterr().out
    error = message_of(call, capsys, "--config-dir", "mine", f"wing={name}")
    file = "tab" if name == "base" else name
    assert error.startswith(f"error: mine/wing/{file}.yaml") and BROKEN[name][1] in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: x", "seed=x: expected an integer"),
        ("seed:", "seed=null: expected an integer"),
        ("evaluation: 3", "evaluation.deterministic is missing; train needs it"),
        ("model: {hidden_sizes: 10}", "model.hidden_sizes=10: expected a list"),
        ("algo: {adapt_only: log_std}", "algo.adapt_only=log_std: expected a list"),
        ("iterations: ${nowhere}", "iterations=${nowhere}: Interpolation key 'nowhere' not found"),
        ("defaults: 3", "experiment/mine.yaml: defaults: expected a list"),
        ("defaults: [nowhere]", "Could not load 'experiment/nowhere'"),
        ("defaults: [{override /env: nowhere}]", "Could not find 'env/nowhere'"),
        ("defaults: [{override /nowhere: x}]", "experiment=mine is of another command"),
        ("algo: 3", "algo"),
    ],
)
def test_a_users_file_may_be_wrong_in_other_ways(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    with pytest.raises(UserError) as refused:
        check_overrides("train", ["experiment=mine"], [configs.CONFIGS, tmp_path])
    assert message in str(refused.value) and "\n" not in str(refused.value)


def _targets(config: Any) -> Iterator[str]:
    """Every `_target_` at any depth."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if key == "_target_":
            yield value
        yield from _targets(value)


def wrong_setting(config: DictConfig) -> None:
    envs.make("half_cheetah_vle", num_worlds=1)


def wrong_call(config: DictConfig) -> None:
    """What is wrong is our own code: one world was made, and two tasks are given to it."""
    env = envs.make("bandit", num_worlds=1)
    env.set_tasks(env.prior.test_tasks(2))


def foreign_value_error(config: DictConfig) -> None:
    int("three")


def user_error(config: DictConfig) -> None:
    raise UserError("no CUDA device")


def missing_file(config: DictConfig) -> None:
    Path("nowhere/x").read_text()


def interrupted(config: DictConfig) -> None:
    raise KeyboardInterrupt


def gpu_is_full(config: DictConfig) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nSee elsewhere.")


def test_a_gpu_that_is_full_is_a_message_that_says_what_to_make_smaller(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    message = message_of(call, capsys, run=gpu_is_full)
    assert "Tried to allocate 20 GiB." in message and "Expected a smaller chunk" in message
    assert message.count("\n") == 1


def test_user_errors_are_messages(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert message_of(call, capsys, run=user_error) == "error: no CUDA device\n"
    assert (
        message_of(call, capsys, run=missing_file)
        == "error: nowhere/x: No such file or directory\n"
    )
    assert message_of(call, capsys, run=interrupted, code=130) == "interrupted\n"


def test_wrong_setting_is_a_message_and_another_value_error_a_bug(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    message = message_of(call, capsys, run=wrong_setting)
    assert message.startswith("error: ")
    assert "Traceback" not in message
    for run in (wrong_call, foreign_value_error):
        bug = message_of(call, capsys, run=run, code=1)
        assert "Traceback" in bug
        assert run.__name__ in bug


TARGETS = sorted(
    {value for config in configs.contents(configs.CONFIGS).values() for value in _targets(config)}
)


@pytest.mark.parametrize("target", TARGETS)
def test_what_configs_name_refuses_settings_by_a_setting_error(target: str) -> None:
    """A plain ValueError there would show the user a traceback."""
    made = get_object(target)
    source = textwrap.dedent(inspect.getsource(made))
    (tree,) = ast.parse(source).body
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    makers = [
        methods[name]
        for name in ("__init__", "__post_init__", "sizes", tree.name)
        if name in methods
    ]
    raised = [
        ast.unparse(node)
        for maker in makers
        for node in ast.walk(maker)
        if isinstance(node, ast.Raise)
    ]
    assert [text for text in raised if text.startswith("raise ValueError")] == []


def test_value_error_inside_instantiate_is_a_message(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: DictConfig) -> None:
        instantiate({"_target_": "envs.make", "name": "half_cheetah_vle", "num_worlds": 1})

    error = message_of(call, capsys, run=run)
    assert error.startswith("error: ")
    assert "half_cheetah_vle" in error
    assert "Traceback" not in error


def test_traceback_on_request(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError):
        call(run=user_error)


def test_a_sweep_goes_on_after_a_run_that_fails_and_tells_of_it_at_its_end(
    call: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    done = []

    def run(config: DictConfig) -> None:
        if config.seed == 2:
            raise UserError("training diverged")
        if config.seed == 3:
            foreign_value_error(config)
        done.append(config.seed)

    error = message_of(call, capsys, "-m", "seed=1,2,3,4", "calm=true", run=run, code=1)
    assert done == [1, 4]
    assert [line for line in error.splitlines() if line.startswith("---")] == [
        f"--- run {number}: seed={number} calm=True" for number in (1, 2, 3, 4)
    ]
    assert error.endswith(
        "error: 2 runs of the sweep failed:\n  run 2: seed=2 calm=True\n    training diverged\n"
        "  run 3: seed=3 calm=True\n    ValueError: invalid literal for int() with base 10: "
        "'three'\n"
    )
    assert "Traceback" in error  # Of the bug, where it happened.
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {
        "multirun.yaml",
        "1.json",
        "2.json",
    }


def test_a_sweeper_gets_the_score_of_each_run_and_none_of_one_that_failed(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Optuna's does, which asks for the value of each run at its end; also of one that was done
    when the sweep was called before."""
    returned = []
    monkeypatch.setattr(
        sweep.End,
        "on_job_end",
        lambda self, config, job_return, **kwargs: returned.append(job_return.return_value),
        raising=False,
    )

    def run(config: DictConfig) -> None:
        folder = tmp_path / f"seed{config.seed}"
        folder.mkdir(exist_ok=True)
        sweep.note_folder(folder, "go on")
        if config.seed == 2:
            raise UserError("training diverged")
        (folder / "config.yaml").touch()
        (folder / "metrics.jsonl").write_text(
            json.dumps({"iteration": 0, "return_after": 10.0 * config.seed}) + "\n"
        )
        sweep.comparison.keep(sweep.DONE, {"folder": str(folder)})

    monkeypatch.setattr(sweep.comparison, "show", lambda folder, failed: None)
    for _ in range(2):
        with pytest.raises(SystemExit):
            call("-m", "hydra.sweep.dir=again", "seed=1,2,3", run=run)
    assert returned == [10.0, None, 30.0] * 2


def test_ctrl_c_ends_a_sweep(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        message_of(call, capsys, "-m", "seed=1,2", run=interrupted, code=130).count("--- run") == 1
    )


def test_two_sweeps_of_one_second_have_folders_of_their_own(call: Any, tmp_path: Path) -> None:
    for _ in range(3):
        call("-m", "seed=1,2")
    assert len(list(tmp_path.rglob("multirun.yaml"))) == 3


FLY = """
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from metarl.cli import main as cli
from metarl.cli.helptext import help_text

def run(config):
    print("±" * 10, "läufe")
    print("notice", file=sys.stderr)
    for _ in range(config.seed):
        print("result" * 1000)

cli.run_command("fly", run, configs=Path({configs!r}))
"""


@pytest.fixture
def fly(folder: Path, tmp_path: Path) -> Path:
    """The command as a script, for shells."""
    (tmp_path / "fly.py").write_text(FLY.format(configs=str(folder)), encoding="utf-8")
    return tmp_path / "fly.py"


def shell(line: str, **environment: str) -> tuple[str, str]:
    python = f"{shlex.quote(sys.executable)} -W ignore"
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["bash", "-c", line.replace("python", python)]
    done = subprocess.run(
        command, capture_output=True, env=os.environ | paths | environment, check=False
    )
    notices = done.stderr.decode().splitlines(keepends=True)
    return done.stdout.decode(), "".join(notices)


CALLS = ["seed=300", "--help", "--cfg job", "--info all", "-m seed=300,301"]
FORKED = """
import os, sys
import metarl.cli.main
from hydra.core.plugins import Plugins
Plugins.instance()  # It looks for them, which takes as long as all else.
for words in {calls!r}:  # Each in a process of its own; what is imported by now is shared.
    here, there = os.pipe()
    if os.fork() == 0:
        os.dup2(there, 1)
        os.close(here), os.close(there)
        sys.argv[1:] = words.split()
        break
    os.close(there), os.read(here, 1), os.close(here)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
else:
    sys.exit()
"""


def test_a_pipe_that_nobody_reads_to_its_end_is_no_error(fly: Path) -> None:
    fly.write_text(FORKED.format(calls=CALLS) + fly.read_text("utf-8"), encoding="utf-8")
    out, error = shell(f"cd {fly.parent}; python {fly}")
    codes = dict(zip(CALLS, out.split(), strict=True))
    assert set(codes.values()) <= {"0", "141"}, codes
    assert [
        line
        for line in error.splitlines()
        if line and line != "notice" and not line.startswith("---")
    ] == []


def test_results_go_to_stdout_and_notices_to_stderr(fly: Path) -> None:
    out, error = shell(f"cd {fly.parent}; python {fly} -m seed=0,1")
    assert [line[:6] for line in out.splitlines()] == ["±" * 6, "±" * 6, "result"]
    assert error.split("\n") == [
        "",
        "--- run 1: seed=0",
        "notice",
        "",
        "--- run 2: seed=1",
        "notice",
        "",
    ]


def test_a_console_that_cannot_show_every_sign_shows_the_others(fly: Path) -> None:
    out, error = shell(f"cd {fly.parent}; python {fly} seed=0", PYTHONIOENCODING="ascii")
    assert (out, error) == (f"{'?' * 10} l?ufe\n", "notice\n")


def test_help_tells_words_choices_and_meaning(
    call: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert call("--help", run=lambda config: pytest.fail("ran")) == []
    text = " ".join(capsys.readouterr().out.split())
    assert "Usage: python fly.py" in text
    assert "python scripts/fly.py seed=3" in text  # From the docstring of this file.
    assert "seed=0 where randomness starts" in text
    assert "ceiling=300.0 The highest altitude in metres." in text
    assert "landing.site=null a place" in text
    assert "wing=long one of long, short" in text
    assert "pilot=null who flies; one of kim" in text


def test_words_that_are_not_utf_8_are_told_in_a_line(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    message = message_of(call, capsys, os.fsdecode(b"pilot=f\xe4"))
    assert r"pilot=f\udce4: isn't text in UTF-8; expected" in message


@pytest.mark.parametrize("columns", [1, 20, 40, 69])
def test_help_fits_a_narrow_terminal(
    call: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    call("--help")
    text = capsys.readouterr().out
    assert "ceiling=300.0 The highest altitude in metres." in " ".join(text.split())
    meaning = text[text.index("  ceiling=300.0") :].splitlines()[1]
    assert len(meaning) <= max(columns, 26)


@pytest.mark.parametrize(("command", "has_seed"), [("compare", False), ("train", True)])
def test_help_shows_no_sweep_over_a_seed_that_there_is_not(command: str, has_seed: bool) -> None:
    text = help_text(command, "", [], [configs.CONFIGS])
    assert ("-m seed=0,1,2" in text, "Groups, with" in text) == (has_seed, has_seed)


def test_help_with_a_choice_lists_its_keys(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call("wing=short", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Keys of wing=short: wing.span=1.0 m, folded wing.feathers=12" in text


def test_configuration_can_be_shown(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--cfg", "job", "seed=4", run=lambda config: pytest.fail("ran")) == []
    assert "seed: 4" in capsys.readouterr().out


def test_commands_start_without_what_only_some_of_them_need() -> None:
    """Matplotlib alone takes a second."""
    slow = ["matplotlib", "plotly", "torch._dynamo", "tensorboard", "scipy", "pandas", "warp"]
    program = (
        "import sys\n"
        "from metarl.cli.commands import evaluate, fewshot, render, report, train, zoo\n"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert done.stdout.decode() == "[]\n"


COMMANDS = sorted(file.stem for file in configs.CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_explains_every_word(command: str) -> None:
    plain, chosen = configs.composed(command, [], [configs.CONFIGS])
    meaning = configs.comments(command, {}, [configs.CONFIGS])
    words = [
        key for key, value in plain.items() if key not in chosen and not isinstance(value, dict)
    ]
    assert [word for word in words if not meaning.get(word)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_choice_composes(command: str) -> None:
    chosen = configs.composed(command, [], [configs.CONFIGS])[1]
    for group in chosen:
        for name in configs.choices(group, [configs.CONFIGS], command):
            assert (
                configs.composed(command, [f"{group}={name}"], [configs.CONFIGS])[1][group] == name
            )


def test_a_configuration_is_the_callers_own_and_a_users_file_is_read_anew(tmp_path: Path) -> None:
    """Though our own files are composed and read but once."""
    ours = [configs.CONFIGS]
    configs.composed("train", [], ours)[0]["algo"].clear()
    configs.read(configs.CONFIGS / "train.yaml").clear()
    assert configs.composed("train", [], ours)[0]["algo"]["_target_"]
    assert configs.read(configs.CONFIGS / "train.yaml")["seed"] == 0
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.parent.mkdir()
    for seed in (3, 4):
        mine.write_text(f"# @package _global_\nseed: {seed}\n")
        assert configs.read(mine) == {"seed": seed}
        assert configs.composed("train", ["experiment=mine"], [*ours, tmp_path])[0]["seed"] == seed


def test_train_offers_the_algorithms_that_choose_their_own_model() -> None:
    assert {"maml_ppo", "rl2_ppo", "varibad", "grbal", "recurrent_mbrl"} <= set(
        configs.choices("algo", [configs.CONFIGS], "train")
    )


def test_what_a_file_says_does_not_move_the_cursor():
    said = words.one_line("config \x1b[2J\x1b]0;mine\x07 is\nhere, läuft ±")
    assert said == "config \\x1b[2J\\x1b]0;mine\\x07 is here, läuft ±"
    assert words.printable("a\tb") == "a\tb"
