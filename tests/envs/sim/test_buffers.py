"""Facts about how many contacts and constraint rows there can be."""

import mujoco
import pytest

from envs.mujoco.models import ASSETS, GymnasiumModel, XmlModel
from envs.sim.buffers import Buffers, buffers

# Two bodies on a floor: a ball on a hinge, a box that is its child, and another box that stands free.
SCENE = """
<mujoco>
  <option cone="{cone}"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1" condim="3"/>
    <body name="ball" pos="0 0 1">
      <joint type="hinge" limited="true" range="-1 1" frictionloss="0.1"/>
      <geom type="sphere" size="0.1" condim="1"/>
      <body name="child" pos="0 0 1"><joint type="slide"/><geom type="box" size=".1 .1 .1"/></body>
    </body>
    <body name="free" pos="1 0 1"><freejoint/><geom type="box" size=".1 .1 .1" condim="4"/></body>
  </worldbody>
  <contact>{contact}</contact>
</mujoco>
"""


def of(cone: str = "pyramidal", contact: str = "", max_contacts: int | None = None) -> Buffers:
    scene = mujoco.MjModel.from_xml_string(SCENE.format(cone=cone, contact=contact))
    return buffers(scene, max_contacts)


def test_all_that_can_touch_is_counted() -> None:
    # Floor: ball 1 (a pyramid of 3 dimensions has 4 edges), child 4 (4), free 4 (6 edges of 4
    # dimensions). Free: ball 1 (6), child 8 (6). Not ball with child. Limit and friction: 2.
    found = of()
    assert found.contacts == 1 + 4 + 4 + 1 + 8
    assert found.rows == 1 * 4 + 4 * 4 + 4 * 6 + 1 * 6 + 8 * 6 + 2


def test_a_cone_has_a_row_for_each_dimension() -> None:
    assert of("elliptic").rows == 1 * 3 + 4 * 3 + 4 * 4 + 1 * 4 + 8 * 4 + 2


def test_bodies_that_are_excluded_touch_nothing_and_pairs_do() -> None:
    assert of(contact='<exclude body1="free" body2="child"/>').contacts == of().contacts - 8
    assert of(contact='<exclude body1="child" body2="free"/>').contacts == of().contacts - 8


def test_fewer_contacts_have_as_many_rows_as_the_largest() -> None:
    found = of(max_contacts=3)
    assert (found.contacts, found.rows) == (3, 3 * 6 + 2)


def test_contacts_of_convex_shapes_are_few_unless_a_number_is_given() -> None:
    """So that a larger `max_contacts` helps where they were too few."""
    assert of().convex_contacts == 16 < of().contacts
    assert of(max_contacts=40).convex_contacts == 40


@pytest.mark.parametrize(
    ("model", "contacts"),
    [
        (GymnasiumModel(file="half_cheetah.xml"), 16),
        (GymnasiumModel(file="ant.xml"), 25),
        (XmlModel(path=ASSETS / "arm_object.xml"), 82),
    ],
)
def test_our_models_have_exact_bounds(model, contacts: int) -> None:
    """Of half_cheetah: 8 capsules with 2 contacts each; it doesn't touch itself."""
    assert buffers(model.load()).contacts == contacts
