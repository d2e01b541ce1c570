"""The code of docs/python_api.md and docs/deploy.md runs as it stands there, on small problems."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.pages import code_blocks

import metarl
from metarl.cli import filming

SMALL = {"algo": {"meta_batch_size": 2}, "device": "cpu", "iterations": 1}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainings of the pages take a second: fewer tasks, shorter episodes, one iteration."""
    train = metarl.train
    monkeypatch.chdir(tmp_path)

    def trained(env: str | None = None, algo: str | None = None, *words: str, **given: Any) -> Any:
        if "resume" in given:
            return train(**given)
        own = dict(SMALL["algo"])
        own |= {"num_minibatches": 1} if algo == "rl2_ppo" else {"episodes_per_task": 2}
        settings = given | SMALL | {"algo": own, "env": {"horizon": 10}}
        settings["evaluation"] = {"num_tasks": 1, "num_updates": 0, "video": False}
        return train(env, algo, *words, **settings)

    monkeypatch.setattr(metarl, "train", trained, raising=False)
    monkeypatch.setattr(filming, "film", lambda *_, **__: None)


def test_the_page_of_the_python_api(small: None) -> None:
    code = code_blocks("docs/python_api.md")
    assert len(code) == 8
    namespace: dict[str, Any] = {}
    for block in code:
        exec(block.replace("num_tasks=40", "num_tasks=1"), namespace)
    assert namespace["policy"](namespace["obs"]).shape == (2,)


def test_the_page_of_deployment_runs_without_metarl(small: None) -> None:
    (export, elsewhere), (use,) = (
        code_blocks("docs/deploy.md"),
        code_blocks("docs/deploy.md", "python without metarl"),
    )
    namespace: dict[str, Any] = {}
    exec(export, namespace)
    exec(elsewhere, namespace)
    hidden = "import sys; sys.modules['metarl'] = None; sys.modules['envs'] = None\n"
    done = subprocess.run([sys.executable, "-c", hidden + use], capture_output=True, text=True)
    assert re.fullmatch(r"tensor\(\d\)\n", done.stdout), done.stderr
