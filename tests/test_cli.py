"""The command line: mistakes end with a short message and exit code 2, bugs keep their traceback, help is read from configs.

Examples:
  python scripts/fly.py seed=3
"""

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig

import envs
from metarl._scripts import cli, configs
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
    """Runs a command of the config `fly` in an empty folder; returns the configurations that it ran with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*arguments: str, run: Any = lambda config: None, command: str = "fly") -> list[DictConfig]:
        seen: list[DictConfig] = []

        def recorded(config: DictConfig) -> None:
            seen.append(config)
            run(config)

        monkeypatch.setattr(sys, "argv", [f"{command}.py", *arguments])
        cli.main(command, recorded, configs=folder)
        return seen

    return call


def message_of(call: Any, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2, **options: Any) -> str:
    """What a call that fails prints on stderr."""
    with pytest.raises(SystemExit) as stop:
        call(*arguments, **options)
    assert stop.value.code == code
    return capsys.readouterr().err


def test_overrides_reach_the_command(call: Any) -> None:
    (config,) = call("seed=3", "wing=short", "wing.feathers=7", "gust=1", "steps=[1]", "landing.site=Oslo")
    assert (config.seed, config.wing.span, config.wing.feathers, config.gust) == (3, 1.0, 7, 1)
    assert (list(config.steps), config.landing.site) == ([1], "Oslo")


def test_nothing_but_the_commands_own_files_is_written(call: Any, tmp_path: Path) -> None:
    call("seed=1")
    assert list(tmp_path.iterdir()) == []


def test_sweep_runs_every_value_and_keeps_one_record(call: Any, tmp_path: Path) -> None:
    seen = call("-m", "seed=1,2", "wing=long,short")
    assert [(config.seed, config.wing.span) for config in seen] == [(1, 2.0), (1, 1.0), (2, 2.0), (2, 1.0)]
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["multirun.yaml"]


def test_flags_may_stand_anywhere(call: Any) -> None:
    assert [config.gust for config in call("gust=2.0", "-m", "seed=1,2")] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "wing=lnog",
            "wing=lnog: there is no wing of that name. Did you mean long?\nwing is one of: long, short, soft",
        ),
        ("wing.spam=1", "wing.spam: there is no such key. Did you mean wing.span?\nwing has: feathers, span"),
        ("span=1", "span: there is no such key. Did you mean wing.span?"),
        ("sede=1", "sede: there is no such key. Did you mean seed?\nthe keys are: calm,"),
        ("~sede", "sede: there is no such key"),
        ("seed.x=1", "seed.x: seed is a single value (0) and has no keys"),
        ("wing.span=abc", "wing.span=abc: expected a number; the default is 2.0"),
        ("seed=1.5", "seed=1.5: expected an integer; the default is 0"),
        ("seed=true", "seed=true: expected an integer"),
        ("calm=1", "calm=1: expected true or false"),
        ("device=1", "device=1: expected a word; the default is auto"),
        ("steps=3", "steps=3: expected a list with an integer at each place; the default is [10,20]"),
        ("steps=[1,b]", "steps=[1,b]: expected a list"),
        ("seed=null", "seed=null: expected an integer"),
        ("limit=x", "limit=x: expected an integer or null"),
        ("seed=1,2", "seed=1,2: several values need -m (a run for each); a list is written seed=[1,2]"),
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


def test_experiments_setting_that_another_choice_lacks_is_named(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("experiment=hover")[0].wing == {"flaps": 3}
    message = "experiment=hover sets wing.flaps, which wing=long does not have: say '~wing.flaps' to leave it out"
    assert message in message_of(call, capsys, "experiment=hover", "wing=long")
    assert call("experiment=hover", "wing=long", "~wing.flaps")[0].wing == {"span": 2.0, "feathers": 12}


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
    assert "seed=b: expected an integer" in message_of(call, capsys, "-m", "wing=glob(l*)", "seed=b")


@pytest.mark.parametrize(
    "argument", ["landing.site=null", "limit=null", "landing.site=3", "wing.span=1e-3", "+new=1", "~calm", "pilot=kim"]
)
def test_what_is_allowed_passes(call: Any, argument: str) -> None:
    assert len(call(argument)) == 1


def test_value_without_default_is_asked_for(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert message_of(call, capsys, "seed=1", command="glide") == "error: checkpoint=... is missing: a run folder\n"
    assert len(call("checkpoint=runs/a", command="glide")) == 1


def test_group_of_another_command_is_refused(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert "wing=long: glide has no wing" in message_of(call, capsys, "checkpoint=a", "wing=long", command="glide")


def test_config_dir_adds_choices(call: Any, tmp_path: Path) -> None:
    (tmp_path / "wing").mkdir()
    (tmp_path / "wing" / "bent.yaml").write_text("span: 9.0\n")
    assert call("--config-dir", str(tmp_path), "wing=bent")[0].wing.span == 9.0


def our_value_error(config: DictConfig) -> None:
    envs.make("half_cheetah_vle", num_worlds=1)


def foreign_value_error(config: DictConfig) -> None:
    int("three")


def user_error(config: DictConfig) -> None:
    raise UserError("no CUDA device")


def missing_file(config: DictConfig) -> None:
    Path("nowhere/x").read_text()


def interrupted(config: DictConfig) -> None:
    raise KeyboardInterrupt


def test_user_errors_are_messages(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert message_of(call, capsys, run=user_error) == "error: no CUDA device\n"
    assert message_of(call, capsys, run=missing_file) == "error: nowhere/x: No such file or directory\n"
    assert message_of(call, capsys, run=interrupted, code=130) == "interrupted\n"


def test_value_error_of_our_code_is_a_message_and_of_others_a_bug(
    call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = message_of(call, capsys, run=our_value_error)
    assert ours.startswith("error: ")
    assert "Traceback" not in ours
    foreign = message_of(call, capsys, run=foreign_value_error, code=1)
    assert "Traceback" in foreign
    assert "foreign_value_error" in foreign


def test_value_error_inside_instantiate_is_a_message(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_help_with_a_choice_lists_its_keys(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call("wing=short", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Keys of wing=short: wing.span=1.0 m, folded wing.feathers=12" in text


def test_configuration_can_be_shown(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--cfg", "job", "seed=4", run=lambda config: pytest.fail("ran")) == []
    assert "seed: 4" in capsys.readouterr().out


COMMANDS = sorted(file.stem for file in configs.CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_explains_every_word(command: str) -> None:
    plain, chosen = configs.composed(command, [], [configs.CONFIGS])
    meaning = configs.comments(command, {}, [configs.CONFIGS])
    words = [key for key, value in plain.items() if key not in chosen and not isinstance(value, dict)]
    assert [word for word in words if not meaning.get(word)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_choice_composes(command: str) -> None:
    chosen = configs.composed(command, [], [configs.CONFIGS])[1]
    for group in chosen:
        for name in configs.choices(group, [configs.CONFIGS], command):
            assert configs.composed(command, [f"{group}={name}"], [configs.CONFIGS])[1][group] == name


def test_train_offers_the_algorithms_that_choose_their_own_model() -> None:
    assert {"maml_ppo", "rl2_ppo", "grbal", "recurrent_mbrl"} <= set(
        configs.choices("algo", [configs.CONFIGS], "train")
    )
