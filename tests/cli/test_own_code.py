"""Code of a user's own: results say which it was, and what has changed since."""

import hashlib
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from support.commands import call

import metarl
from metarl.cli.commands import fewshot, report
from metarl.cli.configs import CONFIGS, composed
from metarl.cli.own_code import own_code

CODE = """
from functools import partial
from metarl.fewshot.algorithms.protonet import protonet

def own(**settings):
    return protonet(**settings)

half = partial(own, meta_batch_size=1)
"""
CONFIG = "defaults: [protonet]\n_target_: my_learner.own\n"
SMALL = ("dataset=digits", "learner=own", "iterations=1", "device=cpu", "evaluation.num_tasks=2")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    (tmp_path / "configs/learner").mkdir(parents=True)
    (tmp_path / "configs/learner/own.yaml").write_text(CONFIG)
    (tmp_path / "my_learner.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_learner", raising=False)
    return "--config-dir", "configs"


def test_results_say_which_code_they_are_of(
    own: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, fewshot, *own, *SMALL, "run_dir=run") == 0
    digest = hashlib.sha256(CODE.encode()).hexdigest()[:12]
    told = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert told["own_code"] == {"my_learner": digest}
    (tmp_path / "my_learner.py").write_text(CODE + "# another day\n")
    other = hashlib.sha256((CODE + "# another day\n").encode()).hexdigest()[:12]
    importlib.invalidate_caches()
    said = f"the code of my_learner has changed since this training (then {digest}, now {other})"
    with pytest.warns(UserWarning, match=re.escape(said)):
        metarl.load("run", config_dir="configs")
    assert call(monkeypatch, fewshot, *own, "resume=run", "iterations=2") == 0
    # What was gone on with is of the present code.
    assert json.loads((tmp_path / "run/evaluation.json").read_text())["own_code"] == {
        "my_learner": other
    }
    pytest.importorskip("plotly")
    assert call(monkeypatch, report, "runs=[run]", "output=page.html") == 0
    assert f"my_learner {other}" in (tmp_path / "page.html").read_text("utf-8")


def test_only_what_is_not_ours_counts(own: tuple[str, str]) -> None:
    words = ("env=point_navigation_2d", "algo=maml_ppo")
    ours, _ = composed("train", list(words), [CONFIGS])
    assert own_code(ours) == {}
    for name in ("own", "half"):
        assert list(own_code({"algo": {"_target_": f"my_learner.{name}"}})) == ["my_learner"]
    assert own_code({"algo": {"_target_": "metarl.nn.mlp.MLP"}}) == {}  # the commit says it
    assert own_code({"algo": {"_target_": "math.sqrt"}}) == {} or list(
        own_code({"algo": {"_target_": "math.sqrt"}})
    ) == ["math"]  # of C, in a file of its own or in Python itself


def test_what_fails_while_a_learner_of_the_users_is_made_is_a_line_with_its_place(
    own: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_learner.py").write_text(
        "def own(*, setting, **rest):\n    return rest['none']\n"
    )
    (tmp_path / "configs/learner/own.yaml").write_text("_target_: my_learner.own\n")
    importlib.invalidate_caches()
    assert call(monkeypatch, fewshot, *own, *SMALL, "run_dir=run") == 2
    told = capsys.readouterr().err
    assert "error: _target_=my_learner.own: KeyError: 'none' (my_learner.py, line 2)" in told
    assert "Traceback" not in told
