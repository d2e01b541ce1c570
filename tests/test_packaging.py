"""The wheel: everything a run needs is in it, nothing else lies in site-packages, and its commands
run from any folder."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, as pip would unpack it."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site-packages")
    return folder / "site-packages"


def files(folder: Path, pattern: str) -> set[str]:
    return {
        file.relative_to(folder).as_posix()
        for file in folder.rglob(pattern)
        if "__pycache__" not in file.parts
    }


def test_wheel_adds_two_names(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {
        "metarl",
        "envs",
    }


@pytest.mark.parametrize(
    ("source", "place", "pattern"),
    [
        ("configs", "metarl/_configs", "*.yaml"),
        ("metarl", "metarl", "*.c"),
        ("metarl", "metarl", "*.py"),
        ("metarl", "metarl", "page.*"),
        ("envs", "envs", "*.py"),
        ("envs", "envs", "*.xml"),
        ("metarl", "metarl", "py.typed"),
        ("envs", "envs", "py.typed"),
    ],
)
def test_wheel_has_every_file(installed: Path, source: str, place: str, pattern: str) -> None:
    sources = {name for name in files(ROOT / source, pattern) if (ROOT / source / name).is_file()}
    assert sources - files(installed / place, pattern) == set()


ALL_HELP = """
import importlib, sys, envs
print(envs.__file__)
for command, (module, function) in COMMANDS.items():
    sys.argv = [command, "--help"]
    module = importlib.import_module(module)
    print(module.__file__)
    getattr(module, function)()
"""


@pytest.mark.parametrize("kind", ["wheel", "source tree"])
def test_commands_find_their_configs_from_any_folder(
    installed: Path, tmp_path: Path, kind: str
) -> None:
    path = installed if kind == "wheel" else ROOT
    commands = {name: target.split(":") for name, target in PROJECT["scripts"].items()}
    shown = subprocess.run(
        [sys.executable, "-c", f"COMMANDS = {commands}\n{ALL_HELP}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert [command for command in commands if command not in shown.stdout] == []
    assert "env=half_cheetah_vel" in shown.stdout
    imported = [Path(line) for line in shown.stdout.splitlines() if line.startswith("/")]
    assert len(imported) == 1 + len(commands)
    assert all(file.is_relative_to(path) for file in imported), imported
    assert list(tmp_path.iterdir()) == []


def python(program: str, path: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_script_runs_the_command_of_its_own_checkout(installed: Path, tmp_path: Path) -> None:
    """Whether metarl isn't installed, or another one is, as here."""
    script = ROOT / "scripts/train.py"
    program = f"""
import runpy, sys
sys.argv = [{str(script)!r}, "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
print(sys.modules["metarl.cli.commands.train"].__file__, sys.modules["envs"].__file__)
"""
    shown = python(program, str(installed), tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"Usage: python {script}" in shown.stdout
    assert (
        shown.stdout.splitlines()[-1]
        == f"{ROOT / 'metarl/cli/commands/train.py'} {ROOT / 'envs/__init__.py'}"
    )


def test_every_command_has_a_script_like_the_others() -> None:
    texts = {path.stem: path.read_text() for path in (ROOT / "scripts").glob("*.py")}
    assert {f"metarl-{name}": f"metarl.cli.commands.{name}:main" for name in texts} == PROJECT[
        "scripts"
    ]
    assert len({text.replace(name, "train") for name, text in texts.items()}) == 1


MAKE = """
import sys, gymnasium
env = gymnasium.make("metarl:metarl/HalfCheetahVel-v0", max_episode_steps=3)
print(sys.modules["envs"].__file__, env.reset(seed=0)[0].shape)
print(gymnasium.make_vec("metarl/Bandit-v0", num_envs=2).num_envs)
"""


def test_gymnasium_makes_our_environments_without_an_import_of_envs(
    installed: Path, tmp_path: Path
) -> None:
    made = python(MAKE, str(installed), tmp_path)
    assert made.returncode == 0, made.stderr
    place, vector = made.stdout.splitlines()
    assert place == f"{installed / 'envs' / '__init__.py'} (17,)"
    assert vector == "2"
    assert made.stderr == ""  # nothing is registered twice


def test_metarl_alone_makes_the_ids_known_and_loads_nothing_heavy(
    installed: Path, tmp_path: Path
) -> None:
    program = """
import sys, metarl, gymnasium
print(gymnasium.spec("metarl/HalfCheetahVel-v0").max_episode_steps, "torch" in sys.modules, "envs" in sys.modules)
from importlib.metadata import entry_points
(plugin,) = entry_points(group="gymnasium.envs", name="metarl")
plugin.load()()
"""
    done = python(program, str(installed), tmp_path)
    assert (done.stdout, done.stderr) == ("200 False False\n", "")


def test_a_users_folder_envs_does_not_hide_ours_from_the_commands_and_is_named_elsewhere(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("mine = True")
    both = f"{tmp_path}{os.pathsep}{installed}"
    train = "import sys; from metarl.cli.commands import train; sys.argv = ['train', 'env=bandit', '--cfg', 'job']; train.main()"
    shown = python(train, both, tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "name: bandit" in shown.stdout
    named = f"ImportError: {tmp_path / 'envs'} hides metarl's package envs: give it another name, or put {installed} before it"
    for program in (
        MAKE,
        "import envs; from metarl.cli.commands import train",
        f"import envs\n{MAKE}",
    ):
        refused = python(program, both, tmp_path)
        assert named in refused.stderr.splitlines()[-1]


def test_installed_commands_are_those_of_the_project() -> None:
    pytest.importorskip("metarl")
    try:
        entry_points = {
            entry.name: entry.value
            for entry in distribution("metarl").entry_points.select(group="console_scripts")
        }
    except ModuleNotFoundError:
        pytest.skip("runs from a source tree that isn't installed")
    assert entry_points == PROJECT["scripts"]


def test_pins_name_every_dependency() -> None:
    """A dependency without a pin would change under our feet."""
    pins = {
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = PROJECT["dependencies"] + [
        name for extra in PROJECT["optional-dependencies"].values() for name in extra
    ]
    names = {requirement.split(">")[0].split("=")[0].strip().lower() for requirement in wanted}
    assert names - pins == set()


def test_installation_gives_a_reason_for_every_dependency() -> None:
    page = (ROOT / "docs/installation.md").read_text()
    names = [requirement.split(">")[0].strip() for requirement in PROJECT["dependencies"]]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_readme_names_existing_files() -> None:
    words = {word.strip("()[]`,.;:") for word in (ROOT / "README.md").read_text().split()}
    ours = {
        word
        for word in words
        if PurePosixPath(word).suffix in (".py", ".yaml") and "/" in word and "<" not in word
    }
    assert [word for word in ours if not (ROOT / word.split("](")[-1]).exists()] == []
