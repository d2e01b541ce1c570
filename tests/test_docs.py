"""docs/environments.md is what docs/environments.py makes of the code; other pages point at what is
there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.docs_scripts import docs_script

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> Any:
    return docs_script("environments")


def test_environments_page_is_up_to_date(generator: Any) -> None:
    assert (DOCS / "environments.md").read_text() == generator.page(), (
        "run: python docs/environments.py"
    )


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_to_files_and_sections_that_exist(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not _leads_somewhere(page, link)] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    file, _, section = link.partition("#")
    target = DOCS / file if file else page
    if not section:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
    return section in {heading.lower().replace(" ", "-") for heading in headings}


def test_pictures_are_small_and_shown() -> None:
    sizes = {path.name: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert set(sizes) == set(
        re.findall(r"pictures/(\w+\.jpg)", (DOCS / "environments.md").read_text())
    )
    assert {name: size for name, size in sizes.items() if size > 30_000} == {}


OBS, ACTION = "| obs | unit |\n|---|---|\n| 0 | m |", "| action | unit |\n|---|---|\n| 0 | N |"


def test_docstring_without_a_table_takes_that_of_the_class_or_is_refused_by_name(
    generator: Any,
) -> None:
    parts = generator.parts
    assert parts("a.py", f"First.\n\n{OBS}\n\n{ACTION}\n\nSource: x.", "") == (
        "First.",
        f"{OBS}\n\n{ACTION}\n\nSource: x.",
    )
    of_class = f"A class.\n\n{OBS}\n\n{ACTION}\n"
    assert parts("a.py", "First.\n\nSources: x.", of_class) == (
        "First.",
        f"{OBS}\n\n{ACTION}\n\nSources: x.",
    )
    with pytest.raises(
        ValueError, match=r"^a.py: its docstring has no table that begins `\| obs \|`"
    ):
        parts("a.py", f"First.\n\n{ACTION}\n\nSource: x.", "")
    with pytest.raises(
        ValueError, match=r"^a.py: its docstring has no paragraph that begins with `Source:`"
    ):
        parts("a.py", f"First.\n\n{OBS}\n\n{ACTION}", "")


def test_speed_table_takes_the_newest_rows(generator: Any) -> None:
    def rows(env: str, rate: float, share: float | None) -> list[str]:
        common = {"env": env, "num_worlds": 256, "num_threads": None if share is None else 2}
        found = [
            {"name": "env.step", "steps_per_second": rate, "share_outside_physics": 0.05, **common}
        ]
        if share is not None:
            found[0] |= {"share_of_raw_loop": share - 0.05, "share_of_waiting_loop": share}
            shares = {"share_of_raw_loop": share, "share_of_waiting_loop": share + 0.02}
            found.append(
                {"name": "CpuSimulator.step", "steps_per_second": 2 * rate, **shares, **common}
            )
        return [json.dumps(row) for row in found]

    lines = [
        *rows("bandit", 5e6, None),
        *rows("half_cheetah_vel", 1e4, 0.5),
        *rows("half_cheetah_vel", 12345.6, 0.95),
    ]
    assert generator.speeds(lines).splitlines()[-2:] == [
        "| `half_cheetah_vel` | 12,346 | 0.950 | 0.970 | 0.900 | 0.950 | 0.050 | 256 on 2 |",
        "| `bandit` | 5,000,000 | – | – | – | – | 0.050 | 256 on 1 |",
    ]
    assert generator.speeds([]) == ""


def test_each_number_of_a_training_is_explained() -> None:
    """All that learners of the goldens put into metrics.jsonl."""
    told = set(re.findall(r"`(\w+)`", (DOCS / "numbers.md").read_text()))
    cases = json.loads((DOCS.parent / "tests/golden/values.json").read_text())["cases"]
    names = {
        key.removeprefix("iteration 0: ")
        for case in cases.values()
        for key in case["numbers"]
        if key.startswith("iteration 0: ")
    }
    assert names - told - {"accuracy_3"} == set()
