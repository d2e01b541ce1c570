"""What holds for the whole suite: types are checked, nothing is written into the source tree, and
machines may differ.

`gpu` tests are skipped without a CUDA device. `gl` tests are skipped without a GL library, naming
the package to install; where CI is set, a missing library is a failure, so that it can't go
unnoticed.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from ctypes.util import find_library
from functools import cache

import pytest
import torch
from support.type_checks import check_imports

# Before the first import of our packages, MuJoCo and matplotlib. MuJoCo can't even be imported with
# a library that is missing.
check_imports(["metarl", "envs"])
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # For processes that tests start; see below.
if sys.platform == "linux" and find_library("EGL") and find_library("OpenGL"):
    os.environ.setdefault("MUJOCO_GL", "egl")

# The tensors of tests are tiny. Where other programs use the cores, too, OpenMP's waiting threads
# make them ten times slower.
torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    if item.get_closest_marker("gl") and (problem := _gl_problem()):
        from envs.mujoco.gl import (
            INSTALL,
        )  # Not before the import hook is there, as every module of ours.

        reason = f"no GL library ({problem}): {INSTALL}"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True, scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs the tests in a folder of their own: gymnasium's environments, which some compare with,
    make MuJoCo write a log."""
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        yield


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Leaves the pictures of runs empty: drawing them takes two fifths of a small run's time. For
    files that look at other things."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, file, **_: file.write(b""))
        yield


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@cache
def _gl_problem() -> str | None:
    """Why one can't render here, None if one can."""
    import mujoco

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), height=8, width=8).close()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
