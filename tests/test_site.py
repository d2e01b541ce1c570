"""The documentation site: every learner, environment and module has a page, every page its place,
every link its end; and the code of the pages runs."""

import ast
import importlib
import json
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from support.commands import call, numbers
from support.docs_scripts import docs_script
from support.pages import code_blocks

import envs
import metarl
from metarl.cli.commands import evaluate, fewshot, train
from metarl.cli.configs import CONFIGS, choices
from metarl.core import params as P
from metarl.nn.heads import GaussianPolicy
from metarl.noise import Noise
from metarl.rl.algorithms.shared import Source
from metarl.run.checkpoint import load
from metarl.struct import named_leaves

ROOT = Path(__file__).parents[1]
MARKDOWN = ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def pages() -> Any:
    return docs_script("pages")


@pytest.fixture(scope="module")
def site(pages: Any) -> Any:
    """Making it is a test in itself: it raises ValueError for a link that leads nowhere."""
    return pages.Site()


def test_every_learner_has_a_page_with_its_settings(site: Any) -> None:
    for folder, group, command in (
        ("learners", "algo", "train"),
        ("few_shot", "learner", "fewshot"),
    ):
        for name in choices(group, [CONFIGS], command):
            text = site.pages[f"{folder}/{name}.md"]
            assert text.startswith(f"# {name}\n") and "## What it computes" in text
            assert f"[{name}]({name}.md)" in site.pages[f"{folder}/index.md"]
    maml = site.pages["learners/maml_ppo.md"]
    assert "| `algo.meta_batch_size` | `" in maml and "half_cheetah_vel" in maml
    assert "**Args:**" in maml and "checkpoint=zoo:half_cheetah_vel/maml_ppo" in maml
    assert "-195" in maml or "−195" in maml or "[half_cheetah_vel, seed0]" in maml
    assert "experiment=half_cheetah_dir_promp" in site.pages["learners/promp.md"]
    assert "arXiv:1703.03400" in site.pages["learners/fomaml.md"]


def test_every_environment_is_on_a_page(site: Any) -> None:
    texts = [text for place, text in site.pages.items() if place.startswith("environments/")]
    assert [name for name in envs.ALL if not any(f"`{name}`" in text for text in texts)] == []
    modules = {family.__name__.rpartition(".")[2] for family in envs.FAMILIES}
    named = {name for name in modules if f"environments/{name}.md" in site.pages}
    assert len(named) >= len(modules) - 2 and "half_cheetah" in named  # arm's module is a room


def test_every_module_is_in_the_api(site: Any, pages: Any) -> None:
    for module in pages.modules():
        assert site.pages[pages._api(module)] == f"# {module}\n\n::: {module}\n"
    assert "metarl.run.loggers.opening" in pages.modules() and "envs" in pages.modules()


def test_every_page_has_its_place_and_every_place_a_page(site: Any, pages: Any) -> None:
    def places(tree: Any) -> list[str]:
        if isinstance(tree, str):
            return [tree]
        inside = tree.values() if isinstance(tree, dict) else tree
        return [place for part in inside for place in places(part)]

    found = places(pages.nav(site.pages))
    assert len(found) == len(set(found))
    listings = {place for place in site.pages if place.startswith("files/")}
    assert set(found) == set(site.pages) - listings


def test_links_between_pages_lead_to_pages_and_files(site: Any, pages: Any) -> None:
    there = set(site.pages) | {f"files/{file}" for file in site.files}
    wrong = []
    for place, text in site.pages.items():
        for part in re.split(r"^```.*?^```[^\n]*$", text, flags=re.M | re.S):
            for found in pages.LINK.finditer(part):
                target = found["target"].partition("#")[0]
                to = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
                if target and "://" not in target and to not in there:
                    wrong.append(f"{place}: {found['target']}")
    assert wrong == []


def test_links_of_the_readme_lead_to_files(site: Any) -> None:
    site.linked((ROOT / "README.md").read_text(), "README.md", "index.md")


def test_a_link_to_nothing_is_named(site: Any) -> None:
    with pytest.raises(ValueError, match=r"^docs/x.md links to no_such.md#a, which isn't there$"):
        site.linked("see [it](no_such.md#a)", "docs/x.md", "guides/x.md")
    kept = "[a](https://x.org) `[b](c)`\n```\n[d](e)\n```\n"
    assert site.linked(kept.replace("`[b](c)`", "b"), "docs/x.md", "x.md") == kept.replace(
        "`[b](c)`", "b"
    )


def test_links_follow_their_files_into_the_site(site: Any) -> None:
    linked = lambda text: site.linked(text, "docs/pearl.md", "guides/pearl.md")
    assert linked("[a](tuning.md#x)") == "[a](tuning.md#x)"
    assert linked("[a](environments.md#half_cheetah)") == "[a](../environments/half_cheetah.md)"
    assert linked("[a](environments.md#speed)") == "[a](../environments/index.md#speed)"
    assert linked("[a](../metarl/types.py)") == "[a](../api/metarl/types.md)"
    assert linked("[a](../metarl/run)") == "[a](../api/metarl/run/index.md)"
    assert linked("[a](../results/README.md#y)") == "[a](../results/index.md#y)"
    assert linked("[a](../configs/train.yaml)") == "[a](../files/configs/train.yaml)"
    assert linked('<video src="videos/gridworld_5x5.mp4">') == (
        '<video src="../files/docs/videos/gridworld_5x5.mp4">'
    )


def test_videos_are_small_and_shown() -> None:
    start = (ROOT / "docs/index.md").read_text()
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs/videos").iterdir()}
    assert sorted(sizes) == sorted(re.findall(r'src="videos/([\w.]+)"', start))
    assert {name: size for name, size in sizes.items() if size > 600_000} == {}


def test_lists_and_tables_get_room(pages: Any) -> None:
    assert pages.with_room("a:\n- b\n- c\n  d\n- e") == "a:\n\n- b\n- c\n  d\n- e"
    assert pages.with_room("a\n| b |\n|---|\n| c |") == "a\n\n| b |\n|---|\n| c |"


def test_arguments_of_a_docstring_are_a_list(pages: Any) -> None:
    def function() -> None:
        """Adds.

            c = a + b

        Args:
          a: one, which
            goes on.
          b: the other.
        Returns: the sum,
          of both.
        """

    assert pages.docstring(function) == (
        "Adds.\n\n    c = a + b\n\n\n**Args:**\n\n- a: one, which\n  goes on.\n\n- b: the other.\n\n"
        "**Returns:** the sum,\nof both."
    )


RUN_BY = {
    "README.md": "test_site.py",
    "docs/start.md": "test_site.py",
    "docs/own_learner.md": "test_site.py",
    "docs/own_model.md": "test_site.py",
    "docs/own_fewshot.md": "test_site.py",
    "docs/python_api.md": "api/test_pages.py",
    "docs/deploy.md": "api/test_pages.py",
    "docs/gymnasium.md": "envs/test_gym.py",
    "docs/own_environment.md": "envs/own/test_environment.py",
}
"""Which test runs the Python code of a page."""


def test_every_page_with_code_has_a_test_that_runs_it() -> None:
    assert {file for file in MARKDOWN if code_blocks(file)} == set(RUN_BY)
    for file, test in RUN_BY.items():
        assert Path(file).name in (ROOT / "tests" / test).read_text(), (file, test)


def test_code_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """That of the Python API is that of docs/python_api.md, where it runs."""
    first, statistics, api, gym = code_blocks("README.md")
    exec(first, {})
    unadapted, adapted = map(float, re.findall(r"-\d+", capsys.readouterr().out.replace(".", " ")))
    said = re.search(r"returns of about (-\d+) and (-\d+)", first)
    # As it says but for what rounding makes of the physics.
    assert said and adapted - unadapted > 0.5 * (float(said[2]) - float(said[1])) > 0
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.rand(3, 4, 2, generator=generator)
    # What metarl.train returns has [tasks, updates + 1, episodes].
    runs = [SimpleNamespace(evaluation=SimpleNamespace(returns=draw().numpy())) for _ in range(3)]
    exec(statistics, {"runs": runs, "ours": draw(), "theirs": draw()})
    page = (ROOT / "docs/python_api.md").read_text()
    assert all(line in page for line in api.splitlines()[:4])
    pytest.importorskip("stable_baselines3")
    exec(gym.replace("64", "2"), {})


def test_code_of_the_start_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = code_blocks("docs/start.md")
    exec(code.replace("num_tasks=3", "num_tasks=1"), {})
    assert "gridworld_5x5" in capsys.readouterr().out


def written_down(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Writes the blocks of `page` into the files that their first lines name, in `folder`, where the
    test then stands. Returns the files."""
    files = {
        block.partition("\n")[0].removeprefix("# "): block
        for language in ("python", "yaml")
        for block in code_blocks(page, language)
    }
    for file, block in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(block)
        monkeypatch.delitem(sys.modules, Path(file).stem, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    return list(files)


def test_own_learner_of_the_page_trains_and_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written_down("docs/own_learner.md", tmp_path, monkeypatch) == [
        *("my_learner.py", "test_my_learner.py", "my_climber.py", "my_rule.py", "my_loss.py"),
        *("my_configs/algo/es_maml.yaml", "my_configs/algo/es_maml_climbing.yaml"),
        *("my_configs/algo/maml_decaying.yaml", "my_configs/algo/maml_optimistic.yaml"),
    ]
    config = (tmp_path / "my_configs/algo/es_maml.yaml").read_text()
    assert yaml.safe_load(config)["_target_"] == "my_learner.EsMaml"
    own = ("--config-dir", "my_configs")
    words = (
        *("env=point_navigation_2d", "env.horizon=5", "algo=es_maml", "algo.meta_batch_size=2"),
        *("algo.episodes_per_task=2", "algo.num_inner_steps=1", "model.hidden_sizes=[4]"),
        *("evaluation.num_tasks=2", "evaluation.num_updates=1", "evaluation.video=false"),
    )
    first = ("iterations=1", "device=cpu", "run_dir=run")
    assert call(monkeypatch, train, *own, *words, *first) == 0
    assert call(monkeypatch, train, *own, "resume=run", "iterations=2") == 0
    sizes = ("num_tasks=1", "num_updates=0", "device=cpu", "output=x.json")
    assert call(monkeypatch, evaluate, *own, "checkpoint=run", *sizes) == 0
    assert '"slope"' in (tmp_path / "run/metrics.jsonl").read_text()
    # The rule: its numbers are learned, and what was learned is saved.
    words = [word for word in words if word != "algo=es_maml"]
    words += ["algo=maml_decaying", "iterations=1", "device=cpu"]
    assert call(monkeypatch, train, *own, *words, "run_dir=ruled") == 0
    assert call(monkeypatch, train, *own, "resume=ruled", "iterations=2") == 0
    (checkpoint,) = (tmp_path / "ruled/checkpoints").glob("iteration_*2.pt")
    saved = dict(named_leaves(load(checkpoint)["learner"]))
    decays = [leaf for name, leaf in saved.items() if name.endswith(".decay")]
    assert decays and all(decay.abs().sum() > 0 for decay in decays)
    told = "algo.inner_rule=my_rule.DecayingRates has its rates; expected null, or sgd there"
    assert call(monkeypatch, evaluate, *own, "checkpoint=ruled", "inner_lr_decay=0.5") == 2
    assert told in capsys.readouterr().err
    assert call(monkeypatch, train, "resume=ruled", "iterations=3") == 2  # not named
    assert "algo.inner_rule._target_ is 'my_rule.DecayingRates'" in capsys.readouterr().err
    assert call(monkeypatch, train, "algo=maml_ppo", "algo.inner_rule=adam") == 2
    assert "or a rule of your own ({_target_: module.name, ...})" in capsys.readouterr().err
    # The loss: another one steps elsewhere.
    words = [word for word in words if word != "algo=maml_decaying"]
    words += ["algo=maml_optimistic", "algo.episodes_per_task=3"]
    for optimism in (1, 5):
        asked = (f"algo.inner_loss.optimism={optimism}", f"run_dir=optimistic_{optimism}")
        assert call(monkeypatch, train, *own, *words, *asked) == 0
    returns = [
        json.loads((tmp_path / f"optimistic_{n}/metrics.jsonl").read_text())["return_after"]
        for n in (1, 5)
    ]
    assert returns[0] != returns[1]
    assert call(monkeypatch, evaluate, *own, "checkpoint=optimistic_5", *sizes) == 0
    assert call(monkeypatch, train, "algo=maml_ppo", "algo.inner_loss=a2c") == 2
    assert "or a loss of your own ({_target_: module.name, ...})" in capsys.readouterr().err


SMALL = (
    *("env=point_navigation_2d", "env.horizon=5", "device=cpu", "evaluation.num_tasks=2"),
    *("evaluation.num_updates=1", "evaluation.video=false", "--config-dir", "my_configs"),
)
"""Words of a training that takes seconds."""
SMALL_GRADIENT = (
    *(*SMALL, "algo.meta_batch_size=4", "algo.episodes_per_task=2", "algo.num_inner_steps=1"),
    "model.hidden_sizes=[4]",
)


def test_test_of_the_page_passes_and_what_is_not_loaded_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_down("docs/own_learner.md", tmp_path, monkeypatch)
    names: dict[str, Any] = {}
    exec((tmp_path / "test_my_learner.py").read_text(), names)
    names["test_it_keeps_to_what_metarl_relies_on"]()
    learner = importlib.import_module("my_learner").EsMaml
    monkeypatch.setattr(learner, "load_state_dict", lambda self, state: None)
    with pytest.raises(metarl.Error, match="load_state_dict has left theta"):
        names["test_it_keeps_to_what_metarl_relies_on"]()


def test_what_pages_for_extenders_import_is_listed_as_staying() -> None:
    page = (ROOT / "docs/python_api.md").read_text()
    stays = page.split("## What stays")[1].split("\n## ")[0]
    listed = {
        module: set(re.findall(r"`(\w+)`", names))
        for module, names in re.findall(r"^\| `([\w.]+)` \| (.*) \|$", stays, re.MULTILINE)
    }
    for module, names in listed.items():
        for name in names:
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
    for name in ("own_environment", "own_learner", "own_model", "own_fewshot"):
        for block in code_blocks(f"docs/{name}.md"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and re.match("metarl|envs", node.module or ""):
                    imported = {alias.name for alias in node.names}
                    assert imported <= listed.get(node.module or "", set()), (name, node.module)


def test_both_sides_of_the_pages_learner_are_played_on_the_same_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_down("docs/own_learner.md", tmp_path, monkeypatch)
    played, tasks = [], Source.tasks

    def noted(self: Source) -> Any:
        played.append(tasks(self))
        return played[-1]

    monkeypatch.setattr(Source, "tasks", noted)
    assert call(monkeypatch, train, *SMALL_GRADIENT, "algo=es_maml", "iterations=2") == 0
    up, down, next_up, next_down = (task.goal for task in played)
    assert torch.equal(up, down) and torch.equal(next_up, next_down)
    assert not torch.equal(up, next_up)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["es_maml", "es_maml_climbing"])
def test_own_learner_of_the_page_has_the_numbers_of_one_process_in_two(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_down("docs/own_learner.md", tmp_path, monkeypatch)
    words = (*SMALL_GRADIENT, f"algo={algo}", "iterations=2", "algo.outer_lr=1")
    # standalone: on a port that is free, also where other tests run beside this one
    job = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*job, str(ROOT / "scripts/train.py")]
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    subprocess.run(
        [sys.executable, *command, *words, "run_dir=two"],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    assert call(monkeypatch, train, *words, "run_dir=one") == 0
    of_one, of_two = numbers(Path("one")), numbers(Path("two"))
    for one, two in zip(of_one, of_two, strict=True):
        for name in ("env_steps", "return_before", "return_after", "slope"):
            # float32, added up in another order: parameters that differ would show at once.
            assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), name


def test_own_adapter_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_down("docs/own_learner.md", tmp_path, monkeypatch)
    words = (*SMALL_GRADIENT, "algo=es_maml_climbing", "run_dir=run")
    assert call(monkeypatch, train, *words, "iterations=1") == 0
    own = ("--config-dir", "my_configs")
    assert call(monkeypatch, train, *own, "resume=run", "iterations=2") == 0
    sizes = ("num_tasks=2", "num_updates=1", "device=cpu", "deterministic=true", "output=x.json")
    assert call(monkeypatch, evaluate, *own, "checkpoint=run", *sizes) == 0
    climber = importlib.import_module("my_climber")
    generator = torch.Generator().manual_seed(0)
    policy = GaussianPolicy(2, 2, [4], generator=generator)
    adapter = climber.HillClimber(policy, P.of(policy), spread=0.5)
    first, noise = adapter.begin(3), Noise(generator)
    tried = adapter.update(first, returned(1.0, 1.0, 1.0), noise)
    kept = adapter.update(tried, returned(2.0, 0.0, 1.0), noise)  # better, worse, as before
    for name, leaf in first.playing.items():
        assert torch.equal(leaf, P.of(policy)[name].expand_as(leaf))  # no state was written to
        assert (tried.playing[name] != leaf).flatten(1).any(-1).all()
        assert torch.equal(kept.playing[name][0], tried.playing[name][0])
        assert torch.equal(kept.playing[name][1:], leaf[1:])
        assert torch.equal(adapter.concluded(tried).playing[name], leaf)
    still = adapter.update(first, returned(1.0, 1.0, 1.0), None)
    assert all(torch.equal(still.playing[name], leaf) for name, leaf in first.playing.items())


def returned(*returns: float) -> Any:
    """What an update reads of episodes that earned so much, one a task."""
    return SimpleNamespace(returns=torch.tensor(returns)[:, None])


def test_own_models_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written_down("docs/own_model.md", tmp_path, monkeypatch)
    for file in files:
        if file.startswith("test_"):
            names: dict[str, Any] = {}
            exec((tmp_path / file).read_text(), names)
            tests = [thing for name, thing in names.items() if name.startswith("test_")]
            assert tests
            for test in tests:
                test()
    own = ("--config-dir", "my_configs")
    sizes = ("num_tasks=1", "num_updates=1", "device=cpu", "output=x.json")
    by_memory = ("algo=rl2_ppo", "model=min_gru", "model.memory.hidden_size=4")
    by_gradient = ("algo=maml_ppo", "model=with_shortcut", "model.hidden_sizes=[4]")
    for words in (
        (*by_memory, "algo.meta_batch_size=3"),
        (*by_gradient, "algo.meta_batch_size=2", "algo.episodes_per_task=4"),
    ):
        folder = words[1].replace("=", "_")
        assert call(monkeypatch, train, *SMALL, *words, "iterations=1", f"run_dir={folder}") == 0
        assert call(monkeypatch, train, *own, f"resume={folder}", "iterations=2") == 0
        assert call(monkeypatch, evaluate, *own, f"checkpoint={folder}", *sizes) == 0
    (checkpoint,) = (tmp_path / "model_with_shortcut/checkpoints").glob("iteration_*2.pt")
    saved = dict(named_leaves(load(checkpoint)["learner"]))
    shortcuts = [leaf for name, leaf in saved.items() if name.endswith("policy.shortcut.weight")]
    assert shortcuts and all(leaf.abs().sum() > 0 for leaf in shortcuts)  # from zeros


def test_own_few_shot_tasks_and_learner_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in zip(
        ("my_tasks", "my_fewshot"), code_blocks("docs/own_fewshot.md"), strict=True
    ):
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, config in zip(
        ("dataset/oscillations", "learner/ridge"),
        code_blocks("docs/own_fewshot.md", "yaml"),
        strict=True,
    ):
        (tmp_path / f"my_configs/{name}.yaml").parent.mkdir(parents=True)
        (tmp_path / f"my_configs/{name}.yaml").write_text(config)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    own, small = ("--config-dir", "my_configs"), ("evaluation.num_tasks=50", "device=cpu")
    words = ("dataset=oscillations", "learner=ridge", "iterations=150", "run_dir=run", *small)
    assert call(monkeypatch, fewshot, *own, *words) == 0
    assert call(monkeypatch, fewshot, *own, "resume=run", "iterations=200") == 0
    before, after = json.loads((tmp_path / "run/evaluation.json").read_text())["updates"]
    assert after["mean"] < before["mean"]  # squared errors
    assert (tmp_path / "run/curves.png").exists()
    by_maml = ("dataset=oscillations", "learner=maml", "iterations=1", "run_dir=maml", *small)
    assert call(monkeypatch, fewshot, *own, *by_maml) == 0
    classes = ("dataset=digits", "learner=ridge", "iterations=1", "run_dir=classes", *small)
    assert call(monkeypatch, fewshot, *own, *classes) == 0
    agent = metarl.load("classes", config_dir="my_configs")
    x = torch.rand(6, 1, 8, 8)
    names = ["bolt", "nut", "gear"]
    assert set(agent.fit(x, names * 2)(x)) <= set(names)
