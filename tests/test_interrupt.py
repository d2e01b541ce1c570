"""Ctrl-C in the middle of the imports at start ends a command with a line; other programs end as
they always do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What metarl imports first, in its place. Tests in a shell's background have Ctrl-C ignored.
CTRL_C = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(10)
"""
MISTAKE = "raise ValueError('a bug')\n"


def start(tmp_path: Path, program: Path, gymnasium: str) -> tuple[int, str]:
    """The exit code and what is on stderr, where Gymnasium is this code instead."""
    (tmp_path / "instead").mkdir()
    (tmp_path / "instead" / "gymnasium.py").write_text(gymnasium)
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'instead'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["metarl-train", "own_program.py"])
def test_an_installed_command_ends_with_a_line_and_other_programs_as_ever(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("from metarl.cli.commands.train import main\nmain()\n")
    code, told = start(tmp_path, tmp_path / name, CTRL_C)
    if name == "metarl-train":
        assert (code, told) == (130, "interrupted\n")
    else:
        assert code == -signal.SIGINT and told.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("script", ["train", "zoo"])
def test_a_script_ends_with_a_line(tmp_path: Path, script: str) -> None:
    assert start(tmp_path, ROOT / f"scripts/{script}.py", CTRL_C) == (130, "interrupted\n")


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    code, told = start(tmp_path, ROOT / "scripts/train.py", MISTAKE)
    assert code == 1 and told.startswith("Traceback") and told.endswith("ValueError: a bug\n")
