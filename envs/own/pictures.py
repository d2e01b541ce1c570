"""Pictures of a user's own environment: of its MuJoCo model by our renderer, of everything else by
its own `render`."""

import math
from typing import Any

import gymnasium
import mujoco
import numpy as np
from PIL import Image

from envs.mujoco.render import WorldRenderer
from envs.own.world import drawn_by_itself

_ROOM = 2.5  # of the distance from which 45° see what reaches so far to either side


class Pictures:
    """Draws the worlds of one environment. Geometry (meshes, textures) of MuJoCo models is that of
    the first world drawn."""

    def __init__(self) -> None:
        self._renderer: WorldRenderer | None = None

    def picture(self, env: gymnasium.Env[Any, Any], *, width: int, height: int) -> np.ndarray:
        """[height, width, 3] uint8. Raises: RuntimeError saying why it can't be drawn."""
        inner = env.unwrapped
        model, data = getattr(inner, "model", None), getattr(inner, "data", None)
        if not (isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)):
            return fitted(drawn_by_itself(env), width, height)
        if self._renderer is None:
            self._renderer = WorldRenderer(camera=_camera(inner, model, data))
        return self._renderer.picture(model, data, width=width, height=height)

    def __getstate__(self) -> dict[str, Any]:
        """A copy draws with a camera and a context of its own."""
        return {"_renderer": None}

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()


def _camera(inner: Any, model: mujoco.MjModel, data: mujoco.MjData) -> str | int | mujoco.MjvCamera:
    """The one that the environment was made with, the model's `track`, or Gymnasium's free camera,
    in this order; the free one nearer than Gymnasium's where what moves is small beside the floor,
    and with a robot that may walk away."""
    settings = getattr(inner, "mujoco_renderer", None)
    chosen = getattr(settings, "camera_id", None)
    if isinstance(chosen, int) and 0 <= chosen < model.ncam:
        return chosen
    if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track") >= 0:
        return "track"
    camera = mujoco.MjvCamera()
    camera.lookat[:] = np.median(data.geom_xpos, axis=0) if model.ngeom > 0 else model.stat.center
    moves = model.geom_bodyid > 0
    reach = np.linalg.norm(data.geom_xpos - camera.lookat, axis=1) + model.geom_rbound
    farthest = float(reach[moves].max(initial=0.0))
    camera.distance = max(min(model.stat.extent, 4 * farthest or math.inf), _ROOM * farthest)
    for name, value in (getattr(settings, "default_cam_config", None) or {}).items():
        if isinstance(value, np.ndarray):
            getattr(camera, name)[:] = value
        else:
            setattr(camera, name, value)
    if model.njnt > 0 and model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE:
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        camera.trackbodyid = int(model.jnt_bodyid[0])
    return camera


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole picture in its own shape, as large as has room, in the middle of a black one."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(scale * picture.shape[1])), max(1, round(scale * picture.shape[0])))
    whole = Image.new("RGB", (width, height))
    small = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    whole.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(whole)
