"""What on_another_device.py finds, in fresh processes."""

import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "support/on_another_device.py"


@pytest.mark.parametrize("learners", ["of_policies", "few_shot or a_replay or wait"])
def test_learners_run_on_another_device(learners):
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", learners, str(FILE)]
    done = subprocess.run(
        [sys.executable, *words], cwd=FILE.parents[2], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:]
