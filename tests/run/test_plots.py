import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from metarl.run.plots import adaptation_curve_png, learning_curve_png


def row(update, iqm, mean=None):
    return {
        "update": update,
        "mean": iqm - 3 if mean is None else mean,
        "iqm": iqm,
        "ci_low": iqm - 9,
        "ci_high": iqm + 8,
    }


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written, to be looked into."""
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))[1])
    return figures


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_adaptation_curve_shows_the_numbers_and_the_references(tmp_path, drawn):
    path = tmp_path / "curve.png"
    adaptation_curve_png(
        path,
        [row(0, -170), row(1, -92, mean=-97.5)],
        references={"random initialisation": [row(0, -310), row(1, -320)], "standing still": row(0, -300)},
        title="half_cheetah_vel",
    )
    found = lines(drawn[0])
    assert list(found["IQM, 95 % interval"].get_ydata()) == [-170, -92]
    assert list(found["mean"].get_ydata()) == [-173, -97.5]
    assert list(found["random initialisation, IQM"].get_ydata()) == [-310, -320]
    assert list(found["standing still, IQM"].get_ydata()) == [-300, -300]
    band = drawn[0].axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (-179, -84)
    picture = np.asarray(Image.open(path).convert("L"))
    assert picture.shape == (645, 1140)
    assert picture.std() > 10
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_learning_curve_of_several_seeds_is_their_mean_where_all_have_been(tmp_path, drawn):
    def run(shift, steps):
        return [{"env_steps": s, "return_before": -100 + shift, "return_after": s / 10 + shift} for s in steps]

    # At 100 and 200 both are there; the second seed has no row at 200: between 150 and 250 it is 20 + 6.
    learning_curve_png(
        tmp_path / "curve.png", [run(0, [100, 200]), run(6, [50, 150, 250])], title="half_cheetah_vel, maml_ppo"
    )
    found = lines(drawn[0])
    assert list(found["after adaptation"].get_xdata()) == [100, 200]
    assert list(found["after adaptation"].get_ydata()) == [13, 23]
    assert list(found["before"].get_ydata()) == [-97, -97]


def test_learning_curve_is_smoothed_without_looking_ahead(tmp_path, drawn):
    rows = [{"env_steps": 10 * i, "return_before": 0.0, "return_after": float(i == 60)} for i in range(100)]
    learning_curve_png(tmp_path / "curve.png", [rows], title="x")  # 100 rows: the mean of 100 // 50 = 2
    after = lines(drawn[0])["after adaptation"].get_ydata()
    assert {i: y for i, y in enumerate(after) if y} == {60: 0.5, 61: 0.5}


def test_one_row_can_be_drawn(tmp_path):
    adaptation_curve_png(tmp_path / "a.png", [row(0, 1.5)], references={}, title="x")
    learning_curve_png(tmp_path / "b.png", [[{"env_steps": 9, "return_before": 1, "return_after": 2}]], title="x")


def test_a_run_without_rows_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"2 runs with \[1, 0\] rows"):
        learning_curve_png(
            tmp_path / "a.png", [[{"env_steps": 1, "return_before": 1, "return_after": 2}], []], title="x"
        )
