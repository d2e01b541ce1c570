"""What a user copies from the console or reads in a log: commands that a shell and Hydra take, and
lines that end."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from metarl.cli import run_folder
from metarl.cli.words import called, command_line, hydra_text
from metarl.run import progress as shown_progress
from metarl.run.progress import Progress

NAMES = [
    "run",
    "run (1)",
    "läufe",
    "a=b",
    "it's",
    'say "so"',
    "a,b",
    "[x]",
    "{y: 1}",
    "null",
    "3",
    "1e-3",
    "true",
    "$HOME",
]
NAMES += [
    "${seed}",
    "a\\b",
    "back\\",
    "q\\'",
    'q\\"',
    "x ",
    " x",
    "a:b",
    "#1",
    "50%",
    "",
    "choice(1)",
    "~x",
    "a\tb",
    "*?",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_survives_hydra(name: str) -> None:
    value = OverridesParser.create().parse_override(f"key={hydra_text(name)}").value()
    assert OmegaConf.create({"key": value, "seed": 1}).key == name


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_the_printed_resume_command_survives_a_shell_and_hydra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["metarl-train"])
    command, word = shlex.split(run_folder.resume_command(Path(name)))
    value = OverridesParser.create().parse_override(word).value()
    folder = Path(OmegaConf.create({"resume": value}).resume).expanduser()
    assert command == "metarl-train" and folder.absolute() == Path(name).absolute()


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("/home/me/venv/bin/metarl-train", "metarl-fewshot resume=a"),
        ("scripts/train.py", "python scripts/fewshot.py resume=a"),
        ("/my work/scripts/train.py", "python '/my work/scripts/fewshot.py' resume=a"),
        ("a_program", "python scripts/fewshot.py resume=a"),
    ],
)
def test_commands_are_named_as_the_present_one_was_called(
    called: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert command_line("fewshot", resume="a") == command


@pytest.mark.parametrize(
    "words", [["--config-dir", "my configs"], ["--config-dir=my configs"], ["-cd", "my configs"]]
)
def test_a_command_takes_the_users_configs_along(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is of the user's code isn't resumed without."""
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "env=mine", *words])
    expected = "python scripts/train.py --config-dir 'my configs' resume=a"
    assert command_line("train", resume="a") == expected


@pytest.mark.parametrize(
    ("num", "local", "launcher"),
    [
        (1, 1, "python"),
        (2, 2, "torchrun --nproc-per-node=2"),
        (8, 4, "torchrun --nproc-per-node=4 --nnodes=2"),
    ],
)
def test_a_command_begins_as_its_processes_were_started(
    num: int, local: int, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if num > 1:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    monkeypatch.setenv("WORLD_SIZE", str(num))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "seed=1"])
    assert called() == f"{launcher} scripts/train.py seed=1"
    assert command_line("train", resume="a") == f"{launcher} scripts/train.py resume=a"
    assert command_line("evaluate", checkpoint="a") == "python scripts/evaluate.py checkpoint=a"


def progressed(capsys: pytest.CaptureFixture[str], iterations: int = 6) -> str:
    progress = Progress(iterations=iterations, first_iteration=0)
    for i in range(iterations):
        progress.update(
            {"env_steps": 1000 * (i + 1), "return_before": -1.0, "return_after": i}, 2000.0
        )
    progress.close()
    return capsys.readouterr().err


def test_a_log_file_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(shown_progress, "time", SimpleNamespace(monotonic=lambda: now))
    progress = Progress(iterations=6, first_iteration=0)
    for i in range(6):
        now += 10
        progress.update(
            {"env_steps": 1000 * (i + 1), "return_before": -1.0, "return_after": i}, 2000.0
        )
    progress.close()
    assert capsys.readouterr().err == (
        "1/6 1k steps, 2k/s | return -1.0 -> 0.0 | 00:10 < 00:50\n"
        "4/6 4k steps, 2k/s | return -1.0 -> 3.0 | 00:40 < 00:20\n"
        "6/6 6k steps, 2k/s | return -1.0 -> 5.0 | 01:00 < 00:00\n"
    )


def test_no_episode_that_blew_up_is_lost_between_two_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(iterations=15, first_iteration=0)
    for iteration, diverged in enumerate(
        [0.0, 0.2, 0.4]
    ):  # means over 5 iterations: 0, 1 and 2 episodes
        row = {"env_steps": 1000 * (iteration + 1), "return_before": -1.0, "return_after": 0.0}
        progress.update(row | {"diverged_episodes": diverged}, 2000.0, iterations=5)
    progress.close()
    first, last = capsys.readouterr().err.splitlines()
    assert "broke off" not in first and "| 3 episodes broke off |" in last


def test_a_run_without_iterations_writes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert progressed(capsys, iterations=0) == ""


def test_a_terminal_gets_a_bar_with_the_text_behind_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    last: Any = progressed(capsys).rstrip("\n").split("\r")[-1]
    assert re.fullmatch(
        r"6/6 \S{12} 6k steps, 2k/s \| return -1.0 -> 5.0 \| 00:00 < 00:00 *", last
    ), last


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_console_that_is_closed_costs_nothing(tmp_path: Path, closed: str) -> None:
    code = (
        "import sys; from metarl.cli import console\n"
        "with console.tolerant():\n"
        "    print('to nobody'); print('nor this', file=sys.stderr)\n"
        "    open('file', 'w').write('kept')\n"
    )
    words = f'exec "$0" -c "$1" {closed}'
    own = os.environ | {"PYTHONPATH": str(Path(run_folder.__file__).parents[2])}
    done = subprocess.run(["sh", "-c", words, sys.executable, code], cwd=tmp_path, env=own)
    assert done.returncode == 0 and (tmp_path / "file").read_text() == "kept"
