"""Tables of others' numbers: both kinds are read, and what is missing is named."""

from pathlib import Path

import pytest

import envs
from metarl.errors import UserError
from metarl.report.recorded import read_recorded

REFERENCE = Path(__file__).parents[2] / "results/reference"
NOTES = "# source: a log\n# label: theirs\n# env: half_cheetah_vel\n"


def test_a_curve_has_rows_like_those_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "curve.csv"
    file.write_text(NOTES + "env_steps,return_before,return_after\n100,-5,-4.5\n200,-4,-3\n")
    found = read_recorded(file)
    assert (found.label, found.source, found.env) == ("theirs", "a log", "half_cheetah_vel")
    assert found.rows[1] == {"env_steps": 200, "return_before": -4, "return_after": -3}
    assert found.returns is None


def test_a_table_by_task_has_returns_after_each_update(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text(NOTES + "target,after_0,after_1,oracle\n0.5,-9,-8,-1\n1.5,-7,-6,-1\n")
    found = read_recorded(file)
    assert found.returns is not None and found.targets is not None
    assert found.returns.tolist() == [[-9, -8], [-7, -6]] and found.targets.tolist() == [0.5, 1.5]
    assert found.rows == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            NOTES.replace("# label: theirs\n", ""),
            "x.csv doesn't say its label; expected `# label: ...`",
        ),
        (
            NOTES + "env_steps,return_after\n1,2\n",
            "neither the columns env_steps, return_before, return_after nor",
        ),
        (NOTES, "neither the columns"),
        (NOTES + "target,after_0\n1,much\n", "x.csv: after_0 is 'much'; expected a number"),
        (NOTES + "target,after_0\n1\n", "x.csv: after_0 is None; expected a number"),
        (NOTES + "target,after_0\n1,2,3\n", "x.csv: a row has more numbers than there are columns"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_recorded(tmp_path / "x.csv")


def test_the_tables_in_results_are_what_their_sources_have() -> None:
    """Means over 40 goals as the authors print them; 500 iterations of 160 000 steps."""
    table = read_recorded(REFERENCE / "half_cheetah_vel_maml_maml_trpo.csv")
    assert table.returns is not None and len(table.returns) == 40
    means = table.returns.mean(0).tolist()
    assert means == pytest.approx([-129.5, -78.6, -66.6, -60.8], abs=0.05)
    curve = read_recorded(REFERENCE / "half_cheetah_vel_pmr_maml_trpo.csv")
    assert len(curve.rows) == 500 and curve.rows[-1]["env_steps"] == 80_000_000
    point = read_recorded(REFERENCE / "point_navigation_2d_raw_maml_trpo.csv")
    assert point.rows[200]["return_after"] == -12.185
    assert {one.env for one in (table, curve, point)} <= set(envs.ALL)


def test_columns_of_updates_are_in_order(tmp_path: Path) -> None:
    """They are read by their place."""
    file = tmp_path / "x.csv"
    file.write_text(NOTES + "target,after_1,after_0\n0.5,-8,-9\n")
    with pytest.raises(UserError, match=r"columns after_1, after_0; expected after_0, after_1"):
        read_recorded(file)
