from pathlib import Path
from types import SimpleNamespace

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import ImageDraw

from metarl.errors import UserError
from metarl.noise import Noise
from metarl.report import panels, video
from metarl.report.panels import Curve, Gauge, Shot, frame, grid
from metarl.report.video import adaptation_video, film, play, target_gauges
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.data.collect import Streams
from metarl.rl.types import Step
from metarl.struct import replace, struct


@struct
class Speed:
    target_velocity: torch.Tensor


class CountingEnv:
    """Its picture is as bright as it has made steps; world w pays w + 1 a step and ends after
    `ends[w]` steps."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    control_step = 0.1
    num_uniforms = 1

    def __init__(self, ends, horizon=4):
        self.ends, self.num_worlds = torch.tensor(ends), len(ends)
        self.spec = SimpleNamespace(horizon=horizon, made_by=None, changes={})
        self.starts, self.actions = [], []

    def set_tasks(self, tasks):
        self.tasks = tasks

    def reset(self, uniform):
        self.num_steps = 0
        self.starts.append(uniform[:, 0].tolist())
        return torch.zeros(self.num_worlds, 1)

    def step(self, action):
        self.actions.append(action.flatten().tolist())
        self.num_steps += 1
        world = torch.arange(self.num_worlds)
        none = torch.zeros(self.num_worlds, dtype=torch.bool)
        return Step(
            next_obs=torch.zeros(self.num_worlds, 1),
            reward=world + 1.0,
            terminated=self.ends <= self.num_steps,
            truncated=none if self.num_steps < self.spec.horizon else ~none,
            diverged=none,
            terms={"velocity": 0.5 * self.num_steps + world},
        )

    def render(self, world, *, width, height):
        return np.full((height, width, 3), 40 * self.num_steps + world, np.uint8)


def played(env, worlds, **settings):
    streams = Streams(
        tasks=torch.Generator(), reset=Noise(torch.Generator()), policy=Noise(torch.Generator())
    )
    tasks = Speed(target_velocity=torch.arange(1.0, env.num_worlds + 1))
    adapter = UniformActions(env.action_space)
    return list(
        play(env, adapter, None, tasks, streams, worlds=worlds, width=32, height=24, **settings)
    )


def frames(path: Path) -> tuple[dict, list[np.ndarray]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]


def shot(brightness=0, size=(60, 80), **changes):
    picture = np.full((*size, 3), brightness, np.uint8)
    return Shot(
        **{
            "picture": picture,
            "moment": "0.05 s",
            "reward_so_far": 0.0,
            "terms": {},
            "over": False,
            **changes,
        }
    )


def test_play_shows_every_step_and_stays_at_an_episodes_end():
    moments = played(CountingEnv([9, 9, 2]), worlds=[2, 1])
    assert [(a.moment, b.moment) for a, b in moments] == [
        ("0.10 s", "0.10 s"),
        ("0.20 s", "0.20 s"),
        ("0.20 s", "0.30 s"),
        ("0.20 s", "0.40 s"),
    ]
    assert [(a.over, b.over) for a, b in moments] == [(False, False)] * 2 + [(True, False)] * 2
    # World 2 pays 3 a step, twice; world 1 pays 2, four times until the time limit.
    assert [(a.reward_so_far, b.reward_so_far) for a, b in moments] == [
        (3, 2),
        (6, 4),
        (6, 6),
        (6, 8),
    ]
    assert moments[2][1].terms == {"velocity": 2.5}
    assert [int(b.picture[0, 0, 0]) for _, b in moments] == [41, 81, 121, 161]


def test_play_ends_with_the_last_of_the_worlds_that_are_shown():
    assert len(played(CountingEnv([9, 9, 2]), worlds=[2])) == 2


def test_adaptation_video_starts_all_states_alike_and_writes_h264_that_plays_everywhere(
    tmp_path, capsys
):
    envs = [CountingEnv([9, 9]), CountingEnv([9, 3])]
    paths = [tmp_path / "videos" / f"task_{i}.mp4" for i in range(2)]
    grid_path = tmp_path / "videos" / "grid.mp4"
    adaptation_video(
        paths,
        UniformActions(envs[0].action_space),
        {"before": None, "after": None},
        envs,
        Speed(target_velocity=torch.tensor([1.0, 2.0])),
        worlds=[0, 1],
        labels=["target 1 m/s", "target 2 m/s"],
        seed=3,
        grid_path=grid_path,
        width=160,
        height=120,
    )
    assert envs[0].starts == envs[1].starts
    assert envs[0].actions == envs[1].actions
    for path in (*paths, grid_path):
        meta, pictures = frames(path)
        assert (meta["codec"], meta["pix_fmt"].split("(")[0], meta["fps"]) == (
            "h264",
            "yuv420p",
            10.0,
        )
        assert len(pictures) == 4
    _, pictures = frames(paths[1])
    height, width, _ = pictures[0].shape
    left, right = (
        [int(p[height // 2, x, 0]) for p in pictures] for x in (width // 4, 3 * width // 4)
    )
    # H.264 rounds colours by a few of 255.
    assert left == pytest.approx([41, 81, 121, 161], abs=6)
    assert right[:3] == pytest.approx([41, 81, 121], abs=6)
    assert right[3] < 110  # over since step 3: it stays, and is darker
    assert sorted(file.name for file in (tmp_path / "videos").iterdir()) == [
        "grid.mp4",
        "task_0.mp4",
        "task_1.mp4",
    ]
    # A file or pipe would fill with a bar's redrawn lines.
    assert capsys.readouterr().err == ""


def test_a_scene_that_ends_first_stays_darker_at_its_end(tmp_path):
    scenes = {"a": iter([[shot(200)]]), "b": iter([[shot(100)], [shot(140)], [shot(180)]])}
    film(
        scenes,
        [tmp_path / "x.mp4"],
        None,
        labels=["x"],
        gauges=[{}],
        frames_per_second=20,
        num_steps=3,
    )
    _, pictures = frames(tmp_path / "x.mp4")
    left, right = ([int(p[p.shape[0] // 2, x, 0]) for p in pictures] for x in (40, 120))
    # 60 % of 200, and 40 % of the paper's 24; H.264 rounds colours by a few of 255.
    assert left == pytest.approx([200, 130, 130], abs=6)
    assert right == pytest.approx([100, 140, 180], abs=6)


def test_a_film_that_breaks_off_leaves_no_file_and_keeps_the_old_one(tmp_path):
    def broken():
        yield [shot()]
        raise KeyboardInterrupt

    old = tmp_path / "old.mp4"
    old.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        film(
            {"a": broken()},
            [old],
            tmp_path / "new.mp4",
            labels=["x"],
            gauges=[{}],
            frames_per_second=20,
            num_steps=9,
        )
    assert [file.name for file in tmp_path.iterdir()] == ["old.mp4"]
    assert old.read_bytes() == b"old"


def test_a_folder_that_cannot_be_written_to_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    scene = {"a": iter([[shot()]])}
    with pytest.raises(OSError):
        film(
            scene,
            [tmp_path / "file" / "a.mp4"],
            None,
            labels=["x"],
            gauges=[{}],
            frames_per_second=20,
            num_steps=1,
        )


def test_where_nothing_can_be_drawn_the_user_reads_which_package_is_missing():
    env = CountingEnv([9])

    def render(world, **size):
        raise RuntimeError("no OpenGL: apt-get install libegl1")

    env.render = render
    with pytest.raises(UserError, match="apt-get install libegl1"):
        played(env, worlds=[0])


def test_one_environment_cannot_play_two_scenes():
    env = CountingEnv([9])
    with pytest.raises(
        ValueError, match="got 1 environments; expected one of its own for each of 2 states"
    ):
        adaptation_video([], None, {"a": 0, "b": 1}, [env, env], None, worlds=[], labels=[], seed=0)


def test_gauges_have_one_range_for_all_worlds_that_holds_every_target():
    tasks = Speed(target_velocity=torch.tensor([0.5, 2.0]))
    assert [vars(target_gauges(tasks, w)["velocity"]) for w in (0, 1)] == [
        {"target": 0.5, "low": -1.0, "high": 3.0},
        {"target": 2.0, "low": -1.0, "high": 3.0},
    ]
    both_ways = target_gauges(Speed(target_velocity=torch.tensor([-1.0, 2.0])), 0)["velocity"]
    assert (both_ways.low, both_ways.high) == (-3.0, 3.0)


def test_the_gauge_shows_value_and_target_where_they_are():
    gauge = Gauge(target=3.0, low=-1.0, high=4.0)
    picture = frame(
        {"x": shot(size=(300, 400), terms={"velocity": 2.0})}, task="", gauges={"velocity": gauge}
    )
    margin, span = 10, 380  # px: 400 / 40, and what is left

    def columns(colour):
        return np.nonzero((picture == colour).all(-1).any(0))[0]

    value, target = columns((86, 180, 233)), columns((240, 160, 30))
    # One pixel for rounding at each end: 0 is 1/5 of the way, 2 is 3/5, 3 is 4/5.
    assert (value.min(), value.max()) == pytest.approx(
        (margin + span / 5, margin + span * 3 / 5), abs=1
    )
    assert target.mean() == pytest.approx(margin + span * 4 / 5, abs=1)


def drawn_texts(monkeypatch):
    """Returns a list that each text which is drawn comes into, with where it is and its letters'
    size."""
    drawn = []
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, at, text, fill, font, **_: text and drawn.append((text, at, font.size)),
    )
    return drawn


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [
        (-0.935, 2.805, ["0", "1", "2"]),
        (-1.5, 4.5, ["−1", "0", "1", "2", "3", "4"]),
        (-0.06, 0.18, ["0.0", "0.1"]),
        (-0.1, 0.3, ["−0.1", "0.0", "0.1", "0.2", "0.3"]),  # 0.3 / 0.1 is rounded to below 3
        (-45.0, 45.0, ["−40", "−20", "0", "20", "40"]),
    ],
)
@pytest.mark.parametrize("width", [240, 480])
def test_a_gauge_has_a_scale_that_can_be_read(low, high, numbers, width, monkeypatch):
    drawn = drawn_texts(monkeypatch)
    gauge = Gauge(target=high / 2, low=low, high=high)
    scene = {"x": shot(size=(width // 2, width), terms={"velocity": 0.1})}
    frame(scene, task="", gauges={"velocity": gauge})
    scale = drawn[drawn.index(next(each for each in drawn if each[0].startswith("return"))) + 1 :]
    assert [text for text, _, _ in scale if text != " m/s"] == numbers[::-1]
    margin, span = width / 40, width * 38 / 40
    for text, (at, _), size in scale:
        if text in numbers and low < float(text.replace("−", "-")) < high:
            number = float(text.replace("−", "-"))
            assert at == pytest.approx(margin + span * (number - low) / (high - low), abs=1)
        assert size == round(width / 24)  # as large as all other text


@pytest.mark.parametrize(("high", "number"), [(3.8, "3"), (3.2, "2")])
def test_the_unit_stands_once_behind_the_last_number_that_leaves_it_room(high, number, monkeypatch):
    drawn = drawn_texts(monkeypatch)
    gauges = {"velocity": Gauge(target=1.0, low=-1.0, high=high)}
    scene = shot(size=(240, 480), terms={"velocity": 0.1})
    frame({"x": scene}, task="", gauges=gauges)
    texts = [text for text, _, _ in drawn]
    assert texts.count(" m/s") == 1
    assert texts[texts.index(" m/s") - 1] == number
    drawn.clear()
    frame({"x": replace(scene, units={})}, task="", gauges=gauges)
    assert not any("m/s" in text for text, _, _ in drawn)


def test_numbers_that_have_no_room_are_left_out():
    few, many = {"velocity": 2.0}, {"velocity": 2.0, "distance_from_the_origin_of_the_world": 3.0}
    pictures = [
        frame({"x": shot(size=(300, 400), terms=terms)}, task="", gauges={})
        for terms in (few, many, {})
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize(
    ("task", "num_lines"),
    [
        ("goal (0.42, +0.03, 0.28) m", 1),
        ("capsule 36 mm, 221 g, friction 0.98, goal (0.42, +0.03, 0.28) m", 2),
    ],
)
def test_a_task_that_takes_many_words_stands_on_two_lines(task, num_lines):
    picture = frame({"x": shot(size=(240, 320))}, task=task, gauges={})
    has_ink = (picture[:32] > 150).all(-1).any(1)  # 320 / 10 px high
    assert not has_ink[0]
    assert np.count_nonzero(np.diff(has_ink.astype(int)) == 1) == num_lines


@pytest.mark.parametrize("size", [(360, 480), (240, 320), (120, 160), (48, 64)])
@pytest.mark.parametrize("num_panels", [1, 2])
def test_no_task_is_cut_off_at_the_sides(size, num_panels):
    task = "arm_pick_place: capsule 36 mm, 221 g, friction 0.98, goal (0.42, +0.03, 0.28) m"
    picture = frame({str(i): shot(size=size) for i in range(num_panels)}, task=task, gauges={})
    columns = (picture[: round(size[1] / 12)] > 100).any(-1).any(0)
    assert columns.any() and not columns[:1].any() and not columns[-1:].any()


LONG = "half_cheetah_cripple: dead motor of the back thigh from step 100"
WORDS = "arm_pick_place: capsule 36 mm, 221 g, friction 0.98, goal (0.42, +0.03, 0.28) m"


@pytest.mark.parametrize("tasks", [(LONG, "point: goal (1, 2)"), (WORDS, LONG, "x: target 1 m/s")])
@pytest.mark.parametrize("width", [240, 480])
def test_a_film_has_letters_of_two_sizes(tasks, width, monkeypatch):
    drawn = drawn_texts(monkeypatch)
    scene = shot(
        size=(width // 2, width),
        terms={"velocity": 1.0},
        curves={"error": Curve(values=(0.1, 0.2), num_steps=4)},
        changes={"fails": 2},
        num_steps=3,
    )
    for task in tasks:
        gauges = {"velocity": Gauge(target=1.0, low=-1.0, high=3.0)}
        frame({"before": scene, "after": scene}, task=task, gauges=gauges, tasks=tasks)
    assert len({size for _, _, size in drawn}) <= 2
    assert [text.replace("\n", " ") for text, _, _ in drawn if ":" in text] == list(tasks)


def test_a_task_without_a_comma_is_parted_between_two_words(monkeypatch):
    drawn = drawn_texts(monkeypatch)
    frame({"x": shot(size=(180, 240))}, task=LONG, gauges={})
    frame({"x": shot(size=(180, 240))}, task=LONG.replace(":", ""), gauges={})
    assert [text for text, _, _ in drawn if "\n" in text] == [
        "half_cheetah_cripple:\ndead motor of the back thigh from step 100",
        "half_cheetah_cripple dead motor\nof the back thigh from step 100",
    ]


@pytest.mark.parametrize("width", [120, 240, 480])
def test_what_has_no_room_beside_the_clock_ends_in_an_ellipsis(width, monkeypatch):
    drawn = drawn_texts(monkeypatch)
    long = "after 100 000 updates with everything that was seen before"
    curve = Curve(values=(0.1, 0.2), num_steps=4)
    scene = shot(size=(width // 2, width), over=True, curves={f"error {long}": curve})
    frame({long: scene}, task=long.replace(" ", "_"), gauges={})
    cut = [text for text, _, _ in drawn if text.endswith("…")]
    assert [text[:4] for text in cut] == ["afte", "erro"] + ["afte"] * (width < 480)
    font = panels.text_letters(width)
    room = width - font.getlength("0.05 s, over")
    assert all(font.getlength(text) < room for text in cut if text.startswith("after "))


@pytest.mark.parametrize("size", [(60, 80), (241, 321), (17, 33)])
def test_frames_have_even_sides(size):
    picture = frame(
        {"a": shot(size=size), "b": shot(size=size)},
        task="t",
        gauges={"v": Gauge(target=1, low=0, high=2)},
    )
    whole = grid([picture] * 5, max_width=301)
    assert [side % 2 for side in (*picture.shape[:2], *whole.shape[:2])] == [0, 0, 0, 0]
    assert whole.shape[1] <= 310  # every cell may be rounded up to even


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (6, (3, 2)), (12, (4, 3)), (40, (8, 5))],
)
def test_a_grid_holds_every_frame_in_the_shape_of_a_screen(count, shape):
    rows, columns = shape[1], shape[0]
    tones = [5 * i + 40 for i in range(count)]
    whole = grid([np.full((90, 90, 3), tone, np.uint8) for tone in tones])
    gap = 2  # px: 90 / 60, even
    assert whole.shape[:2] == (rows * (90 + gap) - gap, columns * (90 + gap) - gap)
    centres = whole[45 :: 90 + gap, 45 :: 90 + gap, 0].flatten().tolist()
    assert centres[:count] == tones


def test_what_is_too_few_for_a_row_stands_in_its_middle():
    """A quarter of a film of three tasks was black."""
    tones = [100, 150, 200]
    whole = grid([np.full((60, 120, 3), tone, np.uint8) for tone in tones])
    assert whole.shape[:2] == (2 * 60 + 2, 2 * 120 + 2)
    assert whole[30, [60, 180], 0].tolist() == tones[:2]
    below = np.nonzero(whole[90, :, 0] == 200)[0]
    assert (below.min(), below.max()) == (61, 61 + 119)  # half of 242 - 120 on either side
    assert (whole[90, :61] != panels.PAPER).all()  # another ground than the frames'


@pytest.mark.parametrize(("horizon", "rate"), [(15, 3), (10, 2), (100, 20), (500, 20), (3, 2)])
def test_without_physical_time_an_episode_takes_five_seconds_or_as_long_as_its_steps_can_be_followed(
    horizon, rate
):
    env = SimpleNamespace(
        spec=SimpleNamespace(horizon=horizon, made_by=None), control_step=None, render_fps=None
    )
    assert video.frames_per_second(env) == rate
    env.render_fps = 30
    assert video.frames_per_second(env) == 30
    env.control_step = 0.008
    assert video.frames_per_second(env) == pytest.approx(125)


def test_what_was_found_stays_found():
    class Searching(CountingEnv):
        def step(self, action):
            step = super().step(action)
            now = torch.full((self.num_worlds,), self.num_steps == 2)
            return replace(
                step, terms={"found": now.float(), "success": now.float(), "height": now.float()}
            )

    shown = [shots[0].terms for shots in played(Searching([9]), worlds=[0])]
    assert [terms["found"] for terms in shown] == [False, True, True, True]
    assert [terms["success"] for terms in shown] == [False, True, True, True]
    assert [terms["height"] for terms in shown] == [0.0, 1.0, 0.0, 0.0]
    words = panels._numbers(shown[3], panels.UNITS, 1e3, panels.letters(16))
    assert words == "found yes   success yes   height 0.00"


class Measuring(UniformActions):
    """Measures which step it is: `observe` counts."""

    def act(self, state, obs, noise):
        return super().act(None, obs, noise)

    def observe(self, state, obs, act, step):
        return state + 1

    def measure(self, state, obs, act, step):
        return {"surprise": state + torch.arange(len(obs)).float() / 10}


def test_what_an_adapter_measures_of_its_steps_becomes_a_curve():
    env = CountingEnv([9, 2], horizon=3)
    streams = Streams(
        tasks=torch.Generator(), reset=Noise(torch.Generator()), policy=Noise(torch.Generator())
    )
    tasks = Speed(target_velocity=torch.arange(1.0, 3.0))
    adapter = Measuring(env.action_space)
    shots = list(play(env, adapter, 0, tasks, streams, worlds=[0, 1], width=32, height=24))
    assert [row[0].curves["surprise"].values for row in shots] == [
        (0.0,),
        (0.0, 1.0),
        (0.0, 1.0, 2.0),
    ]
    assert shots[-1][1].curves["surprise"].values == pytest.approx(
        (0.1, 1.1)
    )  # its episode ended after two steps
    assert shots[0][0].curves["surprise"].num_steps == 3


def columns_of(picture, colour):
    """The columns of a picture in which at least ten points one above the other have a colour."""
    return np.nonzero((picture == colour).all(-1).sum(0) >= 10)[0]


def test_a_change_in_mid_episode_is_marked_and_said_from_that_step_on(monkeypatch):
    class Failing(CountingEnv):
        def __init__(self):
            super().__init__([9, 9])
            self.spec.changes = {"leg_fails": 2}

    env, generator = Failing(), torch.Generator()
    streams = Streams(tasks=generator, reset=Noise(generator), policy=Noise(generator))
    tasks, adapter = Speed(target_velocity=torch.ones(2)), Measuring(env.action_space)
    shots = [
        moment[0]
        for moment in play(env, adapter, 0, tasks, streams, worlds=[0], width=240, height=120)
    ]
    pictures = [frame({"x": each}, task="", gauges={}) for each in shots]
    below = [columns_of(picture[-60:], panels.MARK) for picture in pictures]
    # Half of four steps; the curve has a margin of 240 / 40 points.
    assert [columns.mean() for columns in below] == pytest.approx([120] * 4, abs=1)
    drawn = drawn_texts(monkeypatch)
    said = []
    for each in shots:
        drawn.clear()
        frame({"x": each}, task="", gauges={})
        said.append([text for text, _, _ in drawn if "fails" in text])
    assert said == [[], *[["leg fails at step 2"]] * 3]


def test_a_curve_is_drawn_to_its_height_below_the_numbers():
    def drawn(values):
        size = (240, 320)
        plain = frame({"before": shot(size=size)}, task="", gauges={})
        with_curve = frame(
            {"before": shot(size=size, curves={"error": Curve(values=values, num_steps=10)})},
            task="",
            gauges={},
        )
        extra = with_curve[len(plain) - 8 :, 8:-8]
        return (extra == (86, 180, 233)).all(-1)

    low, high = drawn((0.25,) * 10), drawn((0.75,) * 10)
    rows = [int(np.median(np.nonzero(part.sum(1) > 150)[0])) for part in (low, high)]
    # A quarter and three quarters of a curve that is two lines of 320 / 15 points high.
    assert rows[0] - rows[1] == pytest.approx(2 * 320 / 15 / 2, abs=1)
    assert drawn((0.25,) * 5).sum(1).max() == pytest.approx(
        low.sum(1).max() / 2, abs=25
    )  # half an episode, half the width
    beyond = drawn((50.0,) * 10)
    assert beyond.any() and beyond.sum(1).argmax() < rows[1]


def test_the_most_likely_actions_are_filmed_where_they_are_asked_for():
    class Asked(UniformActions):
        def most_likely(self, state):
            return "most likely"

        def act(self, state, obs, noise):
            acted.append((state, noise is None))
            return super().act(None, obs, Noise(torch.Generator()))

    env = CountingEnv([9, 9], horizon=1)
    generator = torch.Generator()
    streams = Streams(tasks=generator, reset=Noise(generator), policy=Noise(generator))
    tasks, adapter = Speed(target_velocity=torch.ones(2)), Asked(env.action_space)
    for deterministic, expected in ((True, ("most likely", True)), (False, ("drawn", False))):
        acted: list = []
        shots = play(
            *(env, adapter, "drawn", tasks, streams),
            worlds=[0],
            width=32,
            height=24,
            deterministic=deterministic,
        )
        assert len(list(shots)) == 1 and acted == [expected]


def test_a_headline_is_shown_whole(monkeypatch):
    """Letters that were rounded up had no room."""
    shown = []
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, at, text, *_, **__: shown.append(text)
    )
    shot = Shot(
        picture=np.zeros((360, 480, 3), np.uint8),
        moment="0.42 s",
        reward_so_far=0.0,
        terms={"distance": 0.5},
        over=False,
    )
    task = "arm3: goal (0.0975, 0.269), payload ×2.06"
    frame({"random actions": shot}, task=task, gauges={})
    assert task in [text.replace("\n", " ") for text in shown]
    assert "distance 0.50 m" in shown
    shown.clear()
    frame({"random actions": replace(shot, units={})}, task=task, gauges={})
    assert "distance 0.50" in shown


def test_a_system_without_ffmpeg_is_told_so(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with (
        pytest.raises(UserError, match="a video needs the program ffmpeg: install it, or name it"),
        video._mp4(tmp_path / "a.mp4", 10),
    ):
        pass
    assert not list(tmp_path.iterdir())
