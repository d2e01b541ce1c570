"""Which part of the suite may import which. The tables are the architecture; every import statement
is held to them.

struct <- types <- core <- nn <- {rl, fewshot} <- report    rl and fewshot never import each other
struct <- types <- run <- report                            run knows neither rl nor fewshot
struct, errors, choices, noise, threads, rl.{spec, types} <- envs    of metarl, only cli imports envs
run <- zoo <- cli                                           trained learners as files
everything <- cli <- {scripts, api}                         cli is the only place with hydra and omegaconf
"""

import ast
import re
from pathlib import Path

import pytest
from support.docs_scripts import docs_script

ROOT = Path(__file__).parents[1]

ENVIRONMENTS = [
    "metarl.struct",
    "metarl.errors",
    "metarl.choices",
    "metarl.noise",
    "metarl.rl.spec",
    "metarl.rl.types",
    "envs.episodes",
    "envs.machine",
    "envs.noise",
    "envs.tasks",
    "envs.variants",
]
"""What environments of every kind are made of."""

OUR_IMPORTS = {
    # and metarl.api by name, when one of its names is asked for
    "metarl/__init__.py": ["metarl.gymnasium_plugin", "metarl.interrupt"],
    "metarl/__init__.pyi": ["metarl.api"],
    "metarl/envs_package.py": [],
    "metarl/gymnasium_plugin.py": ["metarl.envs_package"],
    "metarl/choices.py": ["metarl.errors"],
    "metarl/described.py": [],
    "metarl/errors.py": [],
    "metarl/files.py": [],
    "metarl/interrupt.py": [],
    "metarl/noise.py": [],
    "metarl/struct.py": [],
    "metarl/surroundings.py": [],
    "metarl/testing.py": ["metarl.api", "metarl.run.timing"],
    "metarl/threads.py": [],
    "metarl/types.py": ["metarl.struct"],
    "metarl/core": [
        "metarl.struct",
        "metarl.types",
        "metarl.errors",
        "metarl.choices",
        "metarl.described",
        "metarl.threads",
        "metarl.core",
    ],
    "metarl/nn": [
        "metarl.struct",
        "metarl.noise",
        "metarl.types",
        "metarl.errors",
        "metarl.choices",
        "metarl.described",
        "metarl.core",
        "metarl.nn",
    ],
    "metarl/rl": [
        "metarl.struct",
        "metarl.noise",
        "metarl.types",
        "metarl.errors",
        "metarl.choices",
        "metarl.described",
        "metarl.threads",
        "metarl.core",
        "metarl.nn",
        "metarl.rl",
    ],
    "metarl/fewshot": [
        "metarl.struct",
        "metarl.types",
        "metarl.errors",
        "metarl.choices",
        "metarl.described",
        "metarl.files",
        "metarl.core",
        "metarl.nn",
        "metarl.fewshot",
    ],
    "metarl/cli": ["metarl", "envs"],
    "metarl/api": ["metarl"],
    "metarl/zoo": ["metarl.struct", "metarl.errors", "metarl.choices", "metarl.run"],
    "metarl/run": [
        "metarl.struct",
        "metarl.types",
        "metarl.errors",
        "metarl.choices",
        "metarl.files",
        "metarl.threads",
        "metarl.run",
    ],
    "metarl/report": [
        "metarl.struct",
        "metarl.noise",
        "metarl.errors",
        "metarl.choices",
        "metarl.files",
        "metarl.rl",
        "metarl.fewshot",
        "metarl.run",
        "metarl.report",
    ],
    "scripts": ["metarl.cli.commands"],
    "envs/sim": ["metarl.errors", "metarl.choices", "metarl.threads", "envs.machine", "envs.sim"],
    "envs/mujoco": [*ENVIRONMENTS, "metarl.threads", "envs.sim", "envs.mujoco"],
    "envs/small": [*ENVIRONMENTS, "envs.small"],
    "envs": [
        "metarl.struct",
        "metarl.errors",
        "metarl.choices",
        "metarl.described",
        "metarl.noise",
        "metarl.surroundings",
        "metarl.threads",
        "metarl.gymnasium_plugin",
        "metarl.rl.spec",
        "metarl.rl.types",
        "envs",
    ],
}
"""What of our own code the files in a place may import; a name allows what is below it, too."""

PLACES = {
    "mujoco": ["envs/sim/", "envs/mujoco/", "envs/own/", "metarl/cli/benchmarks/"],
    "mujoco_warp": ["envs/", "metarl/cli/benchmarks/"],
    "warp": ["envs/", "metarl/cli/benchmarks/"],
    "hydra": ["metarl/cli/"],
    "omegaconf": ["metarl/cli/"],
    "tensorboard": ["metarl/run/"],
    "torch.utils.tensorboard": ["metarl/run/"],
    "tqdm": ["metarl/run/", "metarl/report/"],
    "plotly": ["metarl/report/page/"],
    "jinja2": ["metarl/report/page/"],
    "torch.distributed": ["metarl/run/distributed.py"],
    "stable_baselines3": ["envs/sb3.py", "metarl/rl/sb3/"],
    "wandb": ["metarl/run/loggers/"],
    "mlflow": ["metarl/run/loggers/"],
}
"""The only places for a library that would otherwise spread."""

FILES = sorted(
    file.relative_to(ROOT).as_posix()
    for top in ("metarl", "envs", "scripts")
    for file in (ROOT / top).rglob("*.py")
)


def is_below(name: str, parents: list[str], separator: str = ".") -> bool:
    return any(
        name == parent or name.startswith(parent.rstrip(separator) + separator)
        for parent in parents
    )


def violations(file: str, source: str) -> list[str]:
    """The imports that the tables forbid in `file`."""
    names = list(docs_script("floors").imports(source))
    place = next((place for place in OUR_IMPORTS if is_below(file, [place], "/")), None)
    ours = [
        name
        for name in names
        if is_below(name, ["metarl", "envs", "scripts"]) or name.startswith(".")
    ]
    wrong = [name for name in ours if place and not is_below(name, OUR_IMPORTS[place])]
    for library, places in PLACES.items():
        wrong += [
            name for name in names if is_below(name, [library]) and not is_below(file, places, "/")
        ]
    return wrong


@pytest.mark.parametrize("file", FILES)
def test_file_imports_only_what_its_place_allows(file: str) -> None:
    assert violations(file, (ROOT / file).read_text()) == []


def test_every_part_of_metarl_is_in_the_table() -> None:
    parts = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "metarl").iterdir()
        if path.name not in ("__pycache__", "py.typed")
    }
    assert parts <= set(OUR_IMPORTS), "say in OUR_IMPORTS what the new part may import"


ROOMS = sorted({file.parent for file in (ROOT / "metarl").rglob("*.py")} - {ROOT / "metarl"})


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.relative_to(ROOT).as_posix())
def test_room_names_each_of_its_files(room: Path) -> None:
    """And nothing that isn't there: who reads the docstring of a package knows what is in it, and
    where to begin."""
    sources = {file.stem: ast.parse(file.read_text()) for file in room.glob("*.py")}
    docstring = ast.get_docstring(sources.pop("__init__")) or ""
    files = set(sources) | {folder.parent.name for folder in room.glob("*/__init__.py")}
    functions = {
        node.name
        for tree in sources.values()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    named = set(re.findall(r"`(\w+)`", docstring))
    assert files - named == set(), f"say in {room.relative_to(ROOT)}/__init__.py what these are for"
    elsewhere = {file.stem for file in (ROOT / "metarl").rglob("*.py")} | {"envs"}
    assert named - files - functions - elsewhere == set(), "there is no such file"


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("metarl/core/adapt.py", "from metarl.rl import losses", ["metarl.rl.losses"]),
        ("metarl/core/adapt.py", "def f():\n    import envs.sim.cpu", ["envs.sim.cpu"]),
        (
            "metarl/rl/losses.py",
            "from metarl.fewshot.losses import accuracy",
            ["metarl.fewshot.losses.accuracy"],
        ),
        ("metarl/rl/losses.py", "from . import returns", ["..returns"]),
        ("metarl/run/train.py", "import envs", ["envs"]),
        ("metarl/run/train.py", "from metarl.rl.types import Step", ["metarl.rl.types.Step"]),
        ("metarl/report/plots.py", "from metarl.core import linalg", ["metarl.core.linalg"]),
        ("metarl/run/train.py", "from torch import distributed", ["torch.distributed"]),
        ("metarl/run/distributed.py", "from torch import distributed", []),
        ("metarl/rl/data/collect.py", "import mujoco.batch", ["mujoco.batch"]),
        ("metarl/run/train.py", "from omegaconf import DictConfig", ["omegaconf.DictConfig"]),
        ("metarl/rl/data/collect.py", "from tqdm import tqdm", ["tqdm.tqdm"]),
        (
            "envs/small/point.py",
            "from metarl.rl.types import Step\nfrom metarl.rl.returns import gae",
            ["metarl.rl.returns.gae"],
        ),
        (
            "envs/small/point.py",
            "import envs.mujoco.targets, mujoco",
            ["envs.mujoco.targets", "mujoco"],
        ),
        ("envs/mujoco/ant.py", "from envs.small import point", ["envs.small.point"]),
        ("envs/sim/cpu.py", "from envs import episodes", ["envs.episodes"]),
        ("envs/small/point.py", "from metarl.structure import x", ["metarl.structure.x"]),
        ("metarl/run/train.py", "from metarl.cli import build", ["metarl.cli.build"]),
        (
            "metarl/report/evaluation.py",
            "import hydra\nfrom metarl.cli import build",
            ["metarl.cli.build", "hydra"],
        ),
        ("metarl/cli/build.py", "import envs, hydra\nfrom metarl.run import train", []),
        ("metarl/cli/build.py", "import mujoco", ["mujoco"]),
        ("scripts/train.py", "from metarl.run import train", ["metarl.run.train"]),
    ],
)
def test_forbidden_imports_are_found(file: str, source: str, wrong: list[str]) -> None:
    assert violations(file, source) == wrong
