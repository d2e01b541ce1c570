"""Loads MuJoCo models without a word to the user, and says what a definition calls them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

import gymnasium
import mujoco

from envs.sim.process import quiet_mujoco

ASSETS = Path(__file__).parent / "assets"


class Model(Protocol):
    """Names a model and loads it."""

    @property
    def name(self) -> str:
        """The model's name in the definition of a problem."""
        ...

    def load(self) -> mujoco.MjModel:
        """A new copy."""
        ...


@dataclass(frozen=True, kw_only=True)
class GymnasiumModel:
    """Loads a model that Gymnasium's MuJoCo environments use."""

    file: str
    """The file's name, for instance half_cheetah.xml."""
    edit: Callable[[mujoco.MjSpec], object] | None = None
    """Changes the model before it is compiled: adds a sensor or a camera, which change no
    motion."""
    physics_step: float | None = None
    """The physics step in s; None: the one in the file."""

    @property
    def name(self) -> str:
        return f"gymnasium/{self.file}"

    def load(self) -> mujoco.MjModel:
        # half_cheetah.xml's settotalmass is deprecated, and MuJoCo would say so in the terminal and
        # in a file
        quiet_mujoco()
        path = str(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / self.file)
        if self.edit is None:
            model = mujoco.MjModel.from_xml_path(path)
        else:
            spec = mujoco.MjSpec.from_file(path)
            self.edit(spec)
            model = spec.compile()
        if self.physics_step is not None:
            model.opt.timestep = self.physics_step
        return model


@dataclass(frozen=True, kw_only=True)
class XmlModel:
    """Loads a model from any XML file."""

    path: Path

    @property
    def name(self) -> str:
        """The file and 12 hex digits over the physics that it describes, as `arm.xml
        0123456789ab`."""
        return f"{self.path.name} {hashlib.sha256(_physics(self.path).encode()).hexdigest()[:12]}"

    def load(self) -> mujoco.MjModel:
        quiet_mujoco()
        return mujoco.MjModel.from_xml_path(str(self.path))


def sense_contact_forces(spec: mujoco.MjSpec) -> None:
    """Adds a sensor that makes MuJoCo compute cfrc_ext, which it leaves alone otherwise; it moves
    the same, bit for bit."""
    spec.add_sensor(
        name="acceleration",
        type=mujoco.mjtSensor.mjSENS_FRAMELINACC,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        objname=spec.bodies[
            1
        ].name,  # any body: the forces are a step on the way to its acceleration
    )


def _physics(path: Path) -> str:
    """Returns the canonical XML of a model and of the files that it includes, without comments and
    without what is only seen."""
    text = ElementTree.canonicalize(
        from_file=path,
        strip_text=True,
        exclude_tags={"visual", "asset", "camera", "light"},
        exclude_attrs={"rgba", "material"},
    )
    included = (str(element.get("file")) for element in ElementTree.parse(path).iter("include"))
    return text + "".join(_physics(path.parent / file) for file in included)
