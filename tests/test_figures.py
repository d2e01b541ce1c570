"""The published curves are what docs/figures.py makes of the result files, in the right words; run
it after a change of either."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.docs_scripts import docs_script

ROOT = Path(__file__).parents[1]
AGAIN = "run: python docs/figures.py"


maker = docs_script("figures")
FIGURES, KEPT = maker.figures(), json.loads((ROOT / "docs/figures.json").read_text())


def test_every_picture_of_a_curve_is_one_of_them() -> None:
    curves = {
        path.relative_to(ROOT).as_posix()
        for name in ("*_curve*.png", "side_by_side.png")
        for path in (ROOT / "results").rglob(name)
    }
    assert curves == set(FIGURES) == set(KEPT), AGAIN
    linked = re.findall(r"\]\(([\w./]+_curve\w*\.png)\)", (ROOT / "results/README.md").read_text())
    assert {f"results/{link}" for link in linked} <= set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_shows_what_its_results_say(name: str) -> None:
    figure = FIGURES[name]()
    assert maker.digest(figure) == KEPT[name]["shows"], AGAIN
    assert maker.file_digest(ROOT / name) == KEPT[name]["file"], (
        f"{name} isn't the file that was drawn; {AGAIN}"
    )
    figure.draw_without_rendering()  # lays it out
    inked, page = figure.get_tightbbox(), figure.bbox_inches
    assert min(inked.x0, inked.y0) > -0.02, "something is cut off at the left, or below"
    assert inked.x1 < page.x1 + 0.02 and inked.y1 < page.y1 + 0.02, "something is cut off"
    words = [text for text in maker.shown(figure) if not text.startswith(("line ", "area "))]
    episodes = "rl2" in name or "memoryless" in name or "cripple" in name
    if episodes:
        assert not [text for text in words if "update" in text], (
            "agents with a memory have episodes"
        )
        assert any("episode" in text for text in words)


def test_a_digest_sees_numbers_words_and_colours() -> None:
    def drawn(change: Any = lambda axes: None) -> str:
        figure = FIGURES["results/half_cheetah_vel/adaptation_curve_seed0.png"]()
        change(figure.axes[0])
        return maker.digest(figure)

    changes = [
        lambda axes: axes.lines[0].set_ydata(axes.lines[0].get_ydata() * 1.001),
        lambda axes: axes.lines[0].set_color("#000001"),
        lambda axes: axes.set_xlabel("episode"),
        lambda axes: axes.collections[0].set_color("#000001"),
    ]
    assert drawn() == drawn()
    assert len({drawn(), *(drawn(change) for change in changes)}) == 1 + len(changes)
