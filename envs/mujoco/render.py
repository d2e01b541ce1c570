"""Pictures of one world of a MuJoCo simulation, without a screen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from envs.mujoco.gl import why_not

# The orange that targets have in the gauges of videos
_MARK_COLOUR = np.array([240, 160, 30, 255], np.float32) / 255

_GROUND = 10.0  # m from its middle to its edge; smaller planes are things that end

_ROOM = 1.4  # m of distance for each m between body and marks; the camera sees 45°


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera that follows the centre of mass of the first body, x to the right and y away from
    it."""

    distance: float  # m
    elevation: float  # degrees; negative looks down
    shows_marks: bool = (
        False  # Looks at the middle between body and marks, from as far as shows both.
    )


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something of the task to be seen in the picture: an arrow, or a cylinder between the middles
    of its ends."""

    start: tuple[float, float, float]  # m
    end: tuple[float, float, float]
    radius: float
    is_arrow: bool = False


class WorldRenderer:
    """Draws an MjData; the OpenGL context is made at the first picture and again when the size
    changes.

    Args: camera: the name or number of one of the model's, a view of our own, or any camera of
    MuJoCo's.
    """

    def __init__(self, *, camera: str | int | View | mujoco.MjvCamera) -> None:
        self._camera = camera
        self._renderer: Any = None

    def picture(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        *,
        width: int,
        height: int,
        marks: Sequence[Mark] = (),
    ) -> np.ndarray:
        """[height, width, 3] uint8, as the camera sees it.

        Raises: RuntimeError where nothing can be drawn, saying why and what to do.
        """
        if self._renderer is None or (self._renderer.width, self._renderer.height) != (
            width,
            height,
        ):
            self.close()
            self._renderer = _make_renderer(model, width, height)
        # Not the renderer's own update_scene, which knows only the first model; worlds may differ
        # in sizes and places.
        every, scene = mujoco.mjtCatBit.mjCAT_ALL.value, self._renderer.scene
        view = self._view(model, data, marks)
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, view, every, scene)
        _follow_with_the_ground(model, scene)
        for mark in marks:
            _add(mark, self._renderer.scene)
        return self._renderer.render()

    def _view(
        self, model: mujoco.MjModel, data: mujoco.MjData, marks: Sequence[Mark]
    ) -> mujoco.MjvCamera:
        if isinstance(self._camera, mujoco.MjvCamera):
            return self._camera
        if isinstance(self._camera, View):
            return _following(self._camera, data.subtree_com[1], marks)
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = model.camera(self._camera).id
        return camera

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes an OpenGL context of its own."""
        return {**vars(self), "_renderer": None}

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _following(view: View, body: np.ndarray, marks: Sequence[Mark]) -> mujoco.MjvCamera:
    place = np.mean([mark.start for mark in marks], axis=0) if view.shows_marks and marks else body
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (body + place) / 2
    camera.distance = max(view.distance, _ROOM * float(np.linalg.norm(body - place)))
    camera.elevation = view.elevation
    camera.azimuth = 90.0
    return camera


def _follow_with_the_ground(model: mujoco.MjModel, scene: mujoco.MjvScene) -> None:
    """Bodies can't fall off a plane, which has no end in MuJoCo, but its picture has one. The picture
    of a ground goes with the camera, by whole tiles, so that the ground itself seems to lie still."""
    camera = np.asarray(scene.camera[0].pos[:2])
    for geom in scene.geoms[: scene.ngeom]:
        half = np.asarray(geom.size[:2])
        is_plane = geom.type == mujoco.mjtGeom.mjGEOM_PLANE
        if not is_plane or half.min() < _GROUND or not np.array_equal(geom.mat, np.eye(3)):
            continue
        repeats = model.mat_texrepeat[geom.matid] if geom.matid >= 0 else np.ones(2)
        tile = 2 * half / np.maximum(repeats, 1)
        geom.pos[:2] += np.round((camera - geom.pos[:2]) / tile) * tile


def _add(mark: Mark, scene: mujoco.MjvScene) -> None:
    kind = mujoco.mjtGeom.mjGEOM_ARROW if mark.is_arrow else mujoco.mjtGeom.mjGEOM_CYLINDER
    geom = scene.geoms[scene.ngeom]
    mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.zeros(9), _MARK_COLOUR)
    mujoco.mjv_connector(geom, kind, mark.radius, np.array(mark.start), np.array(mark.end))
    scene.ngeom += 1


def _make_renderer(model: mujoco.MjModel, width: int, height: int) -> Any:
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    # MuJoCo's 4096 points take as long as all the rest in software, and look the same at these
    # sizes.
    model.vis.quality.shadowsize = min(model.vis.quality.shadowsize, 1024)
    try:
        return mujoco.Renderer(model, height, width)
    # The library's failures have no common type: ImportError, AttributeError, RuntimeError,
    # FatalError, GLError.
    except Exception as error:
        raise RuntimeError(why_not(error)) from error
