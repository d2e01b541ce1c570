"""docs/architecture.md is true: its floors are those of the imports, its links lead to what they
name, and its walks are walked."""

import ast
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import call
from support.docs_scripts import docs_script

from metarl.cli.commands import train

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
_, _, *WALKS = PAGE.read_text().split("\n## ")
# A paragraph behind a walk tells of other ways, which the training here doesn't go.
STEPS = [
    step.partition("\n\n")[0] for walk in WALKS for step in re.split(r"\n(?=\d+\. )", walk)[1:]
]
LINK = re.compile(r"\[(`?)([^\[\]]+?)\1\]\(\.\./([^)]+)\)")

SMALL = (
    *(
        "env=half_cheetah_vel",
        "env.horizon=5",
        "algo.meta_batch_size=2",
        "algo.episodes_per_task=2",
    ),
    *(
        "algo.num_inner_steps=1",
        "algo.num_epochs=1",
        "model.hidden_sizes=[4]",
        "iterations=1",
        "device=cpu",
    ),
    "sim.num_threads=1",
)


@pytest.fixture(scope="module")
def floors() -> Any:
    return docs_script("floors")


def test_diagram_is_what_the_imports_give(floors: Any) -> None:
    shown = floors.DIAGRAM.search(PAGE.read_text())
    assert shown is not None
    assert shown.group() == floors.diagram(floors.imported()), "run: python docs/floors.py"


def test_part_stands_above_all_that_it_imports_and_names_the_nearest(floors: Any) -> None:
    assert floors.diagram(
        {"roof": {"walls", "ground"}, "walls": {"ground"}, "ground": set(), "shed": {"ground"}}
    ) == (
        "floor 2\n  roof    on walls\nfloor 1\n  shed    on ground\n  walls   on ground\nfloor 0\n "
        " ground\n"
    )
    with pytest.raises(ValueError, match="a circle of imports: a -> b -> a"):
        floors.diagram({"a": {"b"}, "b": {"a"}})


def defined(file: Path) -> set[str]:
    """All names at the top of a file, and those in its classes as Class.name; of a YAML file, its
    keys."""
    if file.suffix == ".yaml":
        content = yaml.safe_load(file.read_text())
        return set(content) | {
            key for entry in content.get("defaults", []) if isinstance(entry, dict) for key in entry
        }
    return _defined(ast.parse(file.read_text()).body)


def _defined(body: list[ast.stmt], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= {prefix + node.name} | _defined(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            found.add(prefix + node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_names_of_links_are_defined_in_their_files() -> None:
    links = LINK.findall(PAGE.read_text())
    assert len(links) == PAGE.read_text().count("](")
    wrong = [
        f"{name} in {file}"
        for code, name, file in links
        if not (ROOT / file).is_file()
        or (name not in defined(ROOT / file) if code else name != file)
    ]
    assert wrong == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[:30])
def test_other_names_of_a_step_stand_in_the_files_that_it_links(step: str) -> None:
    files = [ROOT / file for _, _, file in LINK.findall(step)]
    assert files, "a step needs a link"
    words = set(re.findall(r"\w+", " ".join(file.read_text() for file in files)))
    named = {
        word
        for code in re.findall(r"`([^`]+)`", LINK.sub("", step))
        for word in re.findall(r"\w+", code)
    }
    assert named - words == set()


def test_walks_are_what_a_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every function that is linked is called by a small training, and of every class something."""
    called: set[tuple[str, str]] = set()
    going = True

    def note(frame: Any, event: str, argument: Any) -> None:
        if going and event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    monkeypatch.setattr(train.evaluation, "report_run", lambda *_: None)  # No walk goes there.
    before = sys.getprofile()
    threading.setprofile(note)  # Chunks of tasks are worked on in threads.
    sys.setprofile(note)
    try:
        assert call(monkeypatch, train, *SMALL, f"run_dir={tmp_path / 'run'}") == 0
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
        going = False  # Threads that began before, as a progress bar's, go on being watched.
    missed = [
        f"{name} in {file}"
        for code, name, file in LINK.findall("".join(STEPS))
        if code and runs(ROOT / file, name)
        if not any(
            at == str(ROOT / file) and f"{found}.".startswith(f"{name}.") for at, found in called
        )
    ]
    assert missed == []


def runs(file: Path, name: str) -> bool:
    """Whether the file defines a function of this name, or a class with methods of its own."""
    return file.suffix == ".py" and any(
        isinstance(node, ast.FunctionDef)
        or any(isinstance(part, ast.FunctionDef) for part in node.body)
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name.partition(".")[0]
    )
