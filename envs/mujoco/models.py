"""Loads MuJoCo models without a word to the user."""

import hashlib
from pathlib import Path
from xml.etree import ElementTree

import gymnasium
import mujoco

from envs.process import quiet_mujoco

ASSETS = Path(__file__).parent / "assets"


def gymnasium_model(file: str) -> mujoco.MjModel:
    """A model that Gymnasium's MuJoCo environments use, for instance half_cheetah.xml, unchanged."""
    return mujoco.MjModel.from_xml_path(gymnasium_path(file))


def gymnasium_model_with_contact_forces(file: str) -> mujoco.MjModel:
    """The same with a sensor that makes MuJoCo compute cfrc_ext, which it leaves alone otherwise; it moves the same, bit for bit."""
    spec = mujoco.MjSpec.from_file(gymnasium_path(file))
    spec.add_sensor(
        name="acceleration",
        type=mujoco.mjtSensor.mjSENS_FRAMELINACC,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        objname=spec.bodies[1].name,  # of any body: the forces are a step on the way to it
    )
    return spec.compile()


def gymnasium_path(file: str) -> str:
    """Of such a model; from here on MuJoCo is quiet."""
    quiet_mujoco()  # half_cheetah.xml's settotalmass is deprecated, and MuJoCo would say so in the terminal and in a file
    return str(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file)


def own_model(file: str) -> mujoco.MjModel:
    """A model of ours, from the folder assets beside this file."""
    quiet_mujoco()
    return mujoco.MjModel.from_xml_path(str(ASSETS / file))


def own_model_name(file: str) -> str:
    """For the definition: the file and 12 hex digits over the physics that it describes, as `arm.xml 0123456789ab`."""
    return f"{file} {hashlib.sha256(_physics(ASSETS / file).encode()).hexdigest()[:12]}"


def _physics(path: Path) -> str:
    """The canonical XML of a model and of what it includes, without comments and what is only seen."""
    text = ElementTree.canonicalize(
        from_file=path,
        strip_text=True,
        exclude_tags={"visual", "asset", "camera", "light"},
        exclude_attrs={"rgba", "material"},
    )
    included = (str(element.get("file")) for element in ElementTree.parse(path).iter("include"))
    return text + "".join(_physics(path.parent / file) for file in included)
