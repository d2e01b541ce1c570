"""The page in a real browser, without a network: charts are drawn, videos play, nothing is
complained of, and it can be read wide and narrow, light and dark, on a screen and on paper."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from support.run_folders import few_shot_folder, run_folder

from metarl.report.fewshot_learners import few_shot_runs
from metarl.report.finished import all_runs, configs_below
from metarl.report.page import fewshot
from metarl.report.page.content import gathered
from metarl.report.page.html import page, written

ROWS = [
    {
        "iteration": i,
        "env_steps": 100_000 * (i + 1),
        "seconds": 60.0 * (i + 1),
        "return_before": -300.0 + i,
        "return_after": -200.0 + 5 * i,
    }
    for i in range(20)
]
HOSTILE = "</script><script>console.error('run')</script>"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two learners, one of them with a video, and on a run that still goes."""
    folder = tmp_path_factory.mktemp("report")
    for seed in (0, 1, 2):
        returns = [[-300.0 + 10 * task - seed, -100.0 + 9 * task + seed] for task in range(6)]
        run_folder(
            *(folder / f"runs/maml{seed}", returns),
            seed=seed,
            rows=ROWS,
            command=f"train.py {HOSTILE}",
        )
    for seed in (0, 1):
        flat = [[-150.0 - 20 * abs(task - 3) - seed] for task in range(6)]
        run_folder(folder / f"runs/flat{seed}", flat, seed=seed, rows=ROWS, algo="memoryless_ppo")
    going = run_folder(folder / "runs/going", [[0.0]], seed=3, rows=ROWS[:5])
    (going / "evaluation.json").unlink()
    _film(folder / "runs/maml0/adaptation.mp4")
    flat = "a policy without memory, whose name is longer than a phone is wide"
    settings = {"names": [flat, "maml"], "against": "maml", "num_videos": 3}
    content, _ = gathered(
        *all_runs(configs_below([folder / "runs"])), **settings, command="report.py"
    )
    (folder / "page.html").write_text(page(content))
    return folder / "page.html"


def _film(path: Path) -> None:
    writer = imageio_ffmpeg.write_frames(str(path), (64, 48), fps=10, codec="libx264")
    writer.send(None)
    for shade in range(20):
        writer.send(np.full((48, 64, 3), 10 * shade, dtype=np.uint8))
    writer.close()


@pytest.fixture(scope="module")
def browser(file: Path) -> Iterator[Any]:
    """Chromium without a window, with the page opened."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "no Chromium; on Debian: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        _look(found, width=1400)
        found.get(file.as_uri())
        yield found
    finally:
        found.quit()


def _look(browser: Any, *, width: int, scheme: str = "light", media: str = "") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def _waits_for(found: Callable[[], Any]) -> bool:
    """Whether it becomes true within some seconds."""
    end = time.monotonic() + 20
    while not found() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(found())


def test_nothing_is_complained_of_and_nothing_fetched(browser: Any, file: Path) -> None:
    """First, because logs are emptied by reading them."""
    assert browser.get_log("browser") == []
    said = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"].partition(",")[0]
        for message in said
        if message["method"] == "Network.requestWillBeSent"
    }
    assert file.as_uri() in asked
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {file.as_uri()}


def test_every_chart_is_drawn(browser: Any) -> None:
    drawn = browser.execute_script("""
        return [...document.querySelectorAll("[data-chart]")].map((place) => [
            place.dataset.chart,
            place.querySelectorAll(".scatterlayer .trace").length,
            place.data.filter((trace) => trace.visible !== "legendonly").length,
            place.getAttribute("aria-label").length > 20,
            place.querySelectorAll(".legend .traces").length > 0,
        ]);
    """)
    keys = ["adaptation", "training_steps", "training_time", "profiles", "tasks_1", "tasks_2"]
    assert [chart[0] for chart in drawn] == keys
    assert [chart[1:] for chart in drawn] == [[n, n, True, True] for _, _, n, *_ in drawn]


def test_a_row_that_is_switched_off_stays_off_in_the_dark(browser: Any) -> None:
    state = (
        "return document.getElementById('chart-adaptation').data.map((t) => [t.name, t.visible]);"
    )
    browser.execute_script("""
        const chart = document.getElementById("chart-adaptation");
        const rows = [...chart.querySelectorAll(".legend .traces")];
        const row = rows.find((row) => row.textContent.trim() === "standing still");
        for (const kind of ["mousedown", "mouseup"]) {
            row.querySelector(".legendtoggle").dispatchEvent(new MouseEvent(kind, {bubbles: true}));
        }
    """)
    off = ["standing still", "legendonly"]
    assert _waits_for(lambda: off in browser.execute_script(state))
    _look(browser, width=1400, scheme="dark")
    theme = "return document.documentElement.dataset.drawn"
    assert _waits_for(lambda: browser.execute_script(theme) == "dark")
    assert off in browser.execute_script(state)
    dark = "return JSON.stringify(document.getElementById('chart-adaptation').data)"
    assert "#0072B2" not in browser.execute_script(dark)
    _look(browser, width=1400)
    assert _waits_for(lambda: browser.execute_script(theme) == "light")


def test_videos_play(browser: Any) -> None:
    browser.execute_script("document.querySelector('video').play()")
    position = "return document.querySelector('video').currentTime"
    assert _waits_for(lambda: browser.execute_script(position) > 0)
    size = "const v = document.querySelector('video'); return [v.videoWidth, v.videoHeight]"
    assert browser.execute_script(size) == [64, 48]


def test_nothing_reaches_beyond_a_narrow_screen(browser: Any) -> None:
    _look(browser, width=390)
    reach = "return document.documentElement.scrollWidth"
    widest = (
        "return Math.max(...[...document.querySelectorAll('.main-svg')].map((s) => s.clientWidth))"
    )
    assert _waits_for(lambda: browser.execute_script(widest) <= 390)
    assert browser.execute_script(reach) == 390
    # A name of a legend is broken rather than cut.
    beyond = """
        return [...document.querySelectorAll(".plot")].flatMap((plot) => {
            const edge = plot.getBoundingClientRect().right;
            const names = [...plot.querySelectorAll(".legendtext")];
            return names.filter((name) => name.getBoundingClientRect().right > edge + 1);
        }).length;
    """
    assert browser.execute_script(beyond) == 0
    _look(browser, width=1400)


def test_paper_is_light_and_wide_enough_for_all(browser: Any) -> None:
    _look(browser, width=720, scheme="dark", media="print")
    theme = "return document.documentElement.dataset.drawn"
    assert _waits_for(lambda: browser.execute_script(theme) == "light")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 720
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(paper) == "rgb(255, 255, 255)"


def test_a_page_on_few_shot_runs_is_drawn_as_well(browser: Any, tmp_path: Path) -> None:
    rows = [{"iteration": i, "tasks": 10 * (i + 1), "accuracy": 0.1 * i} for i in range(5)]
    for seed in (0, 1):
        run = few_shot_folder(tmp_path / f"run{seed}", [0.5, 0.75], seed=seed, rows=rows)
        Image.new("RGB", (900, 300)).save(run / "tasks.png")
    settings = {"names": None, "against": None, "command": "report"}
    (tmp_path / "page.html").write_text(
        written(
            fewshot.page(fewshot.gathered(*few_shot_runs(configs_below([tmp_path])), **settings)[0])
        )
    )
    browser.get_log("browser")
    _look(browser, width=390)
    browser.get((tmp_path / "page.html").as_uri())
    drawn = "return document.querySelectorAll('.scatterlayer').length"
    assert _waits_for(lambda: browser.execute_script(drawn) == 2)
    assert browser.execute_script("return document.querySelector('img').naturalWidth") == 900
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert browser.get_log("browser") == []
    _look(browser, width=1400)


def test_what_runs_say_is_text_and_the_page_needs_nobody(file: Path) -> None:
    text = file.read_text()
    assert HOSTILE not in text and "&lt;/script&gt;&lt;script&gt;console" in text
    own = text.replace((script := text.partition("<script>")[2].partition("</script>")[0]), "")
    assert len(script) > 1_000_000 and "http" not in own.replace("http-equiv", "")
    assert "−" in own and "Not evaluated yet" in own
