"""Pictures of one world of a MuJoCo simulation, without a screen."""

import os
from typing import Any

import mujoco
import numpy as np


class WorldRenderer:
    """Draws an MjData; the OpenGL context is made at the first picture and again when the size changes."""

    def __init__(self, *, camera: str | int) -> None:
        self._camera = camera
        self._renderer: Any = None

    def picture(self, model: mujoco.MjModel, data: mujoco.MjData, *, width: int, height: int) -> np.ndarray:
        """[height, width, 3] uint8, as the model's camera sees it.

        Raises: RuntimeError naming the package to install where no OpenGL library is found.
        """
        if self._renderer is None or (self._renderer.width, self._renderer.height) != (width, height):
            self.close()
            self._renderer = _make_renderer(model, width, height)
        self._renderer.update_scene(data, camera=self._camera)
        return self._renderer.render()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _make_renderer(model: mujoco.MjModel, width: int, height: int) -> Any:
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    # MuJoCo's 4096 points take as long as all the rest in software, and look the same at these sizes.
    model.vis.quality.shadowsize = min(model.vis.quality.shadowsize, 1024)
    try:
        return mujoco.Renderer(model, height, width)
    # The library's failures have no common type: ImportError, AttributeError, RuntimeError, FatalError, GLError.
    except Exception as error:
        raise RuntimeError(
            f"MuJoCo can't draw here (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}: {error}). On Debian or Ubuntu: "
            "apt-get install --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri"
        ) from error
