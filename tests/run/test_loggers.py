"""Loggers: TensorBoard, CSV, W&B and MLflow get each row once, whatever became of the process that
began the run; and none of them can end it."""

import csv
import errno
import itertools
import json
import struct
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

import pytest
from support.walker import Walker, measured
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl.errors import UserError
from metarl.run import checkpoint
from metarl.run.held_out import HeldOut
from metarl.run.log import RunLog, give_results
from metarl.run.loggers import opening
from metarl.run.loggers.logger import Begun, Results, settings
from metarl.run.loggers.opening import Tolerant, Tracking, check
from metarl.run.loggers.sent import Sent
from metarl.run.seeding import Generators
from metarl.run.shown import human
from metarl.run.timing import TIMING
from metarl.run.train import train

CONFIG = {"seed": 3, "algo": {"inner_lr": 0.1, "sizes": [1, 2]}, "run_dir": "x", "loggers": ["csv"]}


class Killed(BaseException):
    pass


def run(
    folder, *names, iterations=8, die_after=None, resume=False, back_to=None, every=3, **of_each
):
    def special(learner):
        if learner.count == die_after:
            raise Killed

    folder.mkdir(exist_ok=True)
    generators = Generators(26)
    learner = Walker(generators)
    found = checkpoint.load_newest(folder / "checkpoints")[1] if resume else None
    if back_to is not None:
        found = checkpoint.load(checkpoint.path_of(folder / "checkpoints", back_to))
    Walker.special = special
    try:
        train(
            *(learner, generators),
            iterations=iterations,
            run_folder=folder,
            provenance={"config": CONFIG | {"iterations": iterations}},
            checkpoint_every=2,
            held_out=HeldOut(every=every, measure=measured),
            tracking=Tracking(names=names, settings=of_each),
            resume_from=found,
        )
    except Killed:
        assert die_after is not None
    finally:
        Walker.special = staticmethod(lambda learner: None)


@pytest.fixture(params=[None, 1, 2, 5, 6], ids=lambda at: f"killed in {at}")
def both(request, tmp_path):
    """Runs a training with some loggers, killed in an iteration and resumed. Returns it, and one
    that wasn't."""

    def of(*names):
        run(tmp_path / "whole", *names)
        killed = tmp_path / "killed"
        run(killed, *names, die_after=request.param)
        run(killed, *names, resume=True)
        return killed, tmp_path / "whole"

    return of


def table(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: text for name, text in row.items() if name not in TIMING} for row in rows]


def test_csv_of_a_killed_run_is_that_of_one_that_was_not(both):
    killed, whole = both("csv")
    for name in ("metrics.csv", "evaluations.csv"):
        assert table(killed / name) == table(whole / name)
    of_jsonl = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    rows = list(csv.DictReader((whole / "metrics.csv").open(newline="")))
    assert [{name: float(text) for name, text in row.items()} for row in rows] == of_jsonl
    assert [row["iteration"] for row in table(whole / "evaluations.csv")] == ["3", "6", "8"]
    assert not list(whole.glob("events*"))


def test_a_number_that_comes_later_has_a_column_of_its_own(tmp_path):
    log = RunLog(tmp_path, first_iteration=0, tracking=Tracking(names=("csv",)))
    log.write({"iteration": 0, "a": 1.5})
    log.write({"iteration": 1, "a": 2, "b": "x, y"})
    log.write({"iteration": 2, "b": 3})
    log.close()
    assert (tmp_path / "metrics.csv").read_text() == ('iteration,a,b\n0,1.5,\n1,2,"x, y"\n2,,3\n')


def curves(folder):
    """Each curve as TensorBoard shows it: (step, value) by its name."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag.rpartition("/")[2] not in TIMING
    }


def test_tensorboard_of_a_killed_run_is_that_of_one_that_was_not(both):
    killed, whole = both("tensorboard")
    for place in (".", "by_env_steps"):
        assert curves(killed / place) == curves(whole / place), place
    by_iteration, by_steps = curves(whole), curves(whole / "by_env_steps")
    assert [step for step, _ in by_iteration["return_after"]] == list(range(8))
    assert [step for step, _ in by_iteration["held_out/score"]] == [3, 6, 8]
    assert [step for step, _ in by_steps["by_env_steps/return_after"]] == list(range(10, 81, 10))
    assert [step for step, _ in by_steps["by_env_steps/held_out/score"]] == [30, 60, 80]
    values = lambda curve: [value for _, value in curve]
    assert values(by_iteration["return_after"]) == values(by_steps["by_env_steps/return_after"])


def test_tensorboard_of_a_run_resumed_within_the_second_is_whole(tmp_path):
    """Its new file's name comes last, whatever the old one's process was called."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole, "tensorboard")
    run(killed, "tensorboard", die_after=5)
    for place in (killed, killed / "by_env_steps"):
        (file,) = place.glob("events*")
        file.rename(place / f"events.out.tfevents.{int(time.time()) + 2}.host.zz.0")
    run(killed, "tensorboard", resume=True)
    for place in (".", "by_env_steps"):
        assert curves(killed / place) == curves(whole / place), place


def test_tensorboard_warns_where_older_files_are_from_the_future(tmp_path, caplog):
    run(tmp_path, "tensorboard", die_after=5)
    (file,) = tmp_path.glob("events*")
    file.rename(tmp_path / f"events.out.tfevents.{int(time.time()) + 1000}.host.1.0")
    run(tmp_path, "tensorboard", resume=True)
    assert "later than this machine's clock" in caplog.text


def test_tensorboard_has_the_settings_beside_the_numbers_that_runs_are_compared_by(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run(tmp_path / "run", "tensorboard")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    found = {
        tag: HParamsPluginData.FromString(content)
        for tag, content in events.PluginTagToContent("hparams").items()
    }
    session = found["_hparams_/session_start_info"].session_start_info.hparams
    assert {name: value.number_value or value.string_value for name, value in session.items()} == {
        "seed": 3.0,
        "iterations": 8.0,
        "algo.inner_lr": 0.1,
        "algo.sizes": "[1, 2]",
    }
    shown = found["_hparams_/experiment"].experiment.metric_infos
    names = ["return_before", "return_after", "held_out/score", "evaluation/score"]
    assert [info.name.tag for info in shown] == names


def test_settings_are_those_that_change_numbers():
    assert settings(CONFIG | {"x": None, "evaluation": {"num_tasks": 3}}) == {
        "seed": 3,
        "algo.inner_lr": 0.1,
        "algo.sizes": "[1, 2]",
        "x": "None",
    }


def film(path, num_frames=90):
    import imageio_ffmpeg
    import numpy as np

    writer = imageio_ffmpeg.write_frames(str(path), (64, 48), fps=30)
    writer.send(None)
    for k in range(num_frames):
        writer.send(np.full((48, 64, 3), 2 * k, dtype=np.uint8))
    writer.close()
    return path


def results(folder, iteration=8, **more):
    given = {"numbers": {"score": 2.0}, "video": None, "files": [], **more}
    return Results(iteration=iteration, count=10 * iteration, **given)


def test_tensorboard_shows_the_film_at_its_speed(tmp_path):
    import io

    from PIL import Image

    folder = tmp_path / "run"
    run(folder, "tensorboard")
    before = curves(folder)
    final = results(folder, video=film(folder / "adaptation.mp4"))
    give_results(folder, final, count="env_steps", tracking=Tracking(), config=CONFIG)
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    (image,) = events.Images("adaptation")
    picture = Image.open(io.BytesIO(image.encoded_image_string))
    assert image.step == 8 and picture.size == (image.width, image.height) == (64, 48)
    assert picture.n_frames == 45 and picture.info["duration"] == pytest.approx(2000 / 30, abs=10)
    after = curves(folder)
    assert after.pop("evaluation/score") == [(8, 2.0)]
    assert {tag: after[tag] for tag in before} == before  # nothing was voided


def test_results_of_an_older_state_void_nothing_of_what_came_after_it(tmp_path):
    folder = tmp_path / "run"
    run(folder, "tensorboard")
    before = curves(folder)
    files = {path: path.read_bytes() for path in folder.glob("*.jsonl")}
    early = results(folder, iteration=4)
    give_results(folder, early, count="env_steps", tracking=Tracking(), config=CONFIG)
    after = curves(folder)
    assert {tag: after[tag] for tag in before} == before
    assert {path: path.read_bytes() for path in folder.glob("*.jsonl")} == files


def test_a_logger_that_comes_in_at_a_resume_gets_what_was_before(tmp_path):
    run(tmp_path / "run", iterations=4)
    assert [path.name for path in (tmp_path / "run").glob("*.csv")] == []
    run(tmp_path / "run", "csv", "tensorboard", resume=True)
    assert len(table(tmp_path / "run" / "metrics.csv")) == 8
    assert [step for step, _ in curves(tmp_path / "run")["return_after"]] == list(range(8))
    assert [step for step, _ in curves(tmp_path / "run")["held_out/score"]] == [3, 4, 6, 8]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_named_before_anything_is_written(tmp_path, monkeypatch, name):
    monkeypatch.setattr(opening, "find_spec", lambda _: None)
    message = rf"loggers: {name} isn't installed; expected it \(pip install 'metarl\[{name}\]'\)"
    with pytest.raises(UserError, match=message):
        check(["csv", name])
    check(["csv", "tensorboard"])


class Broken:
    """A server that is away until `is_back`."""

    is_back = False

    def __init__(self):
        self.got = []

    def metrics(self, row):
        if not self.is_back:
            raise ConnectionError("no route to host\nTraceback ...")
        self.got.append(row)

    evaluation = results = metrics

    def flush(self):
        self.metrics({})

    close = flush


def test_trouble_with_a_server_is_said_once_and_ends_nothing(capsys):
    server = Broken()
    logger = Tolerant("mlflow", server)
    logger.metrics({"iteration": 0})
    logger.evaluation({"iteration": 1})
    logger.close()
    said = "mlflow: no route to host; the run goes on, its folder has all numbers\n"
    assert capsys.readouterr().err == said
    server.is_back = True
    logger.metrics({"iteration": 2})
    server.is_back = False
    logger.flush()
    assert server.got == [{"iteration": 2}] and capsys.readouterr().err == said


def test_a_disk_that_is_full_for_tensorboard_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = opening._opened("tensorboard", {}, begun(tmp_path, 0))
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    for iteration in range(3):
        logger.metrics({"iteration": iteration, "env_steps": iteration, "loss": 1.0})
    logger.close()
    said = capsys.readouterr().err
    assert said.count("the run goes on, its folder has all numbers") == 1
    assert said.startswith("tensorboard: ") and "No space left" in said


def begun(folder, num, evaluations=()):
    return Begun(
        folder=folder,
        config={},
        count="env_steps",
        first_iteration=num,
        metrics=[{"iteration": k} for k in range(num)],
        evaluations=[{"iteration": k} for k in evaluations],
    )


def test_a_server_gets_the_rows_that_it_lacks(tmp_path):
    numbers = lambda rows: [row["iteration"] for row in rows]
    new = Sent(begun(tmp_path, 3, [2]), {}, is_known=False)
    assert (numbers(new.metrics), numbers(new.evaluations)) == ([0, 1, 2], [2])
    behind = Sent(begun(tmp_path, 4, [2, 4]), {"iteration": 1.0}, is_known=True)
    assert (numbers(behind.metrics), numbers(behind.evaluations)) == ([2, 3], [2, 4])
    latest = {"iteration": 6.0, "held_out/iteration": 6.0}
    ahead = Sent(begun(tmp_path, 4, [2, 4]), latest, is_known=True)
    assert (ahead.metrics, ahead.evaluations) == ([], [])
    assert not ahead.lacks_metrics({"iteration": 6}) and ahead.lacks_metrics({"iteration": 7})
    offline = Sent(begun(tmp_path, 4, [2]), {}, is_known=True)
    assert (offline.metrics, offline.evaluations) == ([], [])
    assert offline.lacks_metrics({"iteration": 4}) and offline.lacks_evaluation({"iteration": 4})


class Wandb(ModuleType):
    """Stands for the library with a server that keeps runs."""

    server: ClassVar[dict[str, dict[str, Any]]] = {}
    called: ClassVar[list[dict[str, Any]]] = []
    Video = Image = staticmethod(lambda path, **_: str(path))
    Settings = staticmethod(lambda **given: given)

    def init(self, **given):
        self.called.append(given)
        kept = self.server.setdefault(given["id"], {"history": [], "summary": {}})
        return Run(kept)


class Run:
    def __init__(self, kept):
        self.kept, self.summary, self.axes = kept, kept["summary"], {}

    def define_metric(self, name, step_metric):
        self.axes[name] = step_metric

    def log(self, row):
        self.kept["history"].append(row)
        self.summary |= row

    def finish(self):
        pass


@pytest.fixture
def wandb(monkeypatch):
    library = Wandb("wandb")
    library.server.clear()
    library.called.clear()
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.delitem(sys.modules, "metarl.run.loggers.wandb_run", raising=False)
    monkeypatch.setattr(opening, "find_spec", lambda _: True)
    yield library
    sys.modules.pop("metarl.run.loggers.wandb_run", None)


def history(server):
    (kept,) = server.values()
    return [
        {name: value for name, value in row.items() if name not in TIMING}
        for row in kept["history"]
    ]


@pytest.mark.parametrize("die_after", [1, 4, 5, 7])
def test_a_killed_run_goes_on_in_the_same_run_of_wandb(tmp_path, wandb, die_after):
    offline = {"project": "p", "entity": None, "mode": None}
    run(tmp_path / "whole", "wandb", wandb=offline)
    whole = history(wandb.server)
    wandb.server.clear()
    run(tmp_path / "killed", "wandb", die_after=die_after, wandb=offline)
    run(tmp_path / "killed", "wandb", resume=True, wandb=offline)
    assert history(wandb.server) == whole
    assert [row["iteration"] for row in whole if "iteration" in row] == list(range(8))
    given = wandb.called[0]
    assert given["project"] == "p" and "mode" not in given
    assert given["config"] == CONFIG | {"iterations": 8} and given["resume"] == "allow"


def test_a_run_that_goes_back_is_a_run_of_its_own_for_servers(tmp_path, wandb):
    """The server has rows of the iterations that come again, and would take no others of them."""
    run(tmp_path / "run", "wandb")
    (left,) = [dict(kept) for kept in wandb.server.values()]
    run(tmp_path / "run", "wandb", back_to=6, iterations=9)
    old, new = wandb.server.values()
    assert old == left
    rows = [row["iteration"] for row in new["history"] if "iteration" in row]
    assert rows == list(range(9))
    run(tmp_path / "run", "wandb", resume=True, iterations=10)
    assert len(wandb.server) == 2 and 9 in [row.get("iteration") for row in new["history"]]


def test_wandb_gets_the_results_and_goes_on_behind_them(tmp_path, wandb):
    folder = tmp_path / "run"
    run(folder, "wandb")
    final = results(folder, video=film(folder / "adaptation.mp4", 3))
    of = {"count": "env_steps", "tracking": Tracking(names=("wandb",)), "config": CONFIG}
    give_results(folder, final, **of)
    (kept,) = wandb.server.values()
    assert kept["summary"]["evaluation/score"] == 2.0
    assert kept["history"][-1] == {"iteration": 7, "adaptation": str(folder / "adaptation.mp4")}
    run(folder, "wandb", resume=True, iterations=9)
    assert kept["history"][-2]["iteration"] == 8


def test_wandb_that_cannot_begin_is_said_in_a_line(tmp_path, wandb, monkeypatch):
    def init(**_):
        raise RuntimeError("api_key not configured\nmore")

    monkeypatch.setattr(wandb, "init", init, raising=False)
    with pytest.raises(UserError, match=r"^loggers: wandb can't begin: api_key not configured$"):
        run(tmp_path / "run", "wandb")


def records(data):
    """The records of a file of W&B's, which is a log as LevelDB's: blocks of 32 KiB with pieces of
    records, each with its length and kind (whole, first, middle, last) behind a checksum."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs the extra [wandb]")
def test_wandb_itself_takes_a_run_offline(tmp_path):
    run(tmp_path / "run", "wandb", die_after=5, wandb={"project": "p", "mode": "offline"})
    time.sleep(1.1)  # W&B names its folders by the second.
    run(tmp_path / "run", "wandb", resume=True, wandb={"project": "p", "mode": "offline"})
    deadline = time.monotonic() + 60
    found = set[tuple[str, int]]()
    while len(found) < 8 and time.monotonic() < deadline:  # Its own process writes in its own time.
        time.sleep(0.2)
        found = {
            (file.parent.name.rpartition("-")[2], iteration)
            for file in (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
            for iteration in iterations(file.read_bytes())
        }
    kept = json.loads((tmp_path / "run/tracking.json").read_text())
    assert found == {(kept["id"], iteration) for iteration in range(8)}


def iterations(data):
    from wandb.proto.wandb_internal_pb2 import Record

    for record in map(Record.FromString, records(data)):
        for item in record.history.item:
            if "iteration" in (item.key, *item.nested_key):
                yield json.loads(item.value_json)


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the extra [mlflow]")
def test_mlflow_itself_has_each_number_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    of = {"mlflow": {"tracking_uri": uri, "experiment": "tests"}}
    run(tmp_path / "run", "mlflow", die_after=5, **of)
    (begun,) = MlflowClient(uri).search_runs(["1"])
    assert begun.info.status == "KILLED"
    run(tmp_path / "run", "mlflow", resume=True, **of)
    final = results(tmp_path / "run", video=film(tmp_path / "run/adaptation.mp4", 3))
    tracking = Tracking(names=("mlflow",), settings=of)
    given = {"count": "env_steps", "tracking": tracking, "config": CONFIG}
    give_results(tmp_path / "run", final, **given)
    client = MlflowClient(uri)
    (kept,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    steps = lambda name: [
        metric.step for metric in client.get_metric_history(kept.info.run_id, name)
    ]
    assert steps("return_after") == list(range(8)) and steps("held_out/score") == [3, 6, 8]
    assert steps("evaluation/score") == [8] and kept.info.status == "FINISHED"
    assert kept.data.params == {
        "seed": "3",
        "iterations": "8",
        "algo.inner_lr": "0.1",
        "algo.sizes": "[1, 2]",
    }
    assert [file.path for file in client.list_artifacts(kept.info.run_id)] == ["adaptation.mp4"]


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the extra [mlflow]")
def test_a_server_that_does_not_answer_is_asked_less_and_less(tmp_path, monkeypatch):
    """The client itself tries for minutes, and the training would wait at every row."""
    from metarl.run.loggers import mlflow_run

    now, asked = [0.0], []
    monkeypatch.setattr(mlflow_run.time, "monotonic", lambda: now[0])
    of = {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "experiment": "tests"}
    logger = mlflow_run.MlflowRun(begun(tmp_path, 0), of)

    def refuse(*_, **__):
        asked.append(now[0])
        now[0] += 100.0
        raise ConnectionError

    monkeypatch.setattr(logger._client, "log_batch", refuse)
    for iteration in range(60):
        now[0] += 6.0
        with suppress(ConnectionError):
            logger.metrics({"iteration": iteration, "return": 0.0})
    waits = [after - before - 100.0 for before, after in itertools.pairwise(asked)]
    assert waits == sorted(waits) and waits[0] < 15.0 < 100.0 < waits[-1]


@pytest.mark.parametrize(
    ("number", "said"),
    [(999.4, "999"), (999.6, "1k"), (999_600, "1M"), (1_234_567, "1.23M"), (-2e9, "-2G"), (0, "0")],
)
def test_numbers_have_three_digits(number, said):
    assert human(number) == said
