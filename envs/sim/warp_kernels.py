"""What MuJoCo Warp lacks beside MuJoCo's C engine: its contact frames of capsules on a plane, and
its look at worlds that blow up.

Kernels have types of Warp's own in their signatures, which no check of ours knows:
`@no_type_check`.
"""

from typing import no_type_check

import mujoco
import mujoco_warp
import warp as wp

_PLANE = wp.constant(int(mujoco.mjtGeom.mjGEOM_PLANE))
_CAPSULE = wp.constant(int(mujoco.mjtGeom.mjGEOM_CAPSULE))
_STEEP = wp.constant(1e-6)  # the length of the axis along the plane, from which on it has no way


def align_contacts(model: mujoco_warp.Model, data: mujoco_warp.Data) -> None:
    """Turns the frames of contacts as the C engine has them. It is a `contactfilter` of MuJoCo
    Warp, which calls it after finding the contacts of a step."""
    contact = data.contact
    wp.launch(
        _align_with_capsule,
        dim=data.naconmax,
        inputs=[model.geom_type, data.geom_xmat, data.nacon, contact.geom, contact.worldid],
        outputs=[contact.frame],
    )


def needs_alignment(model: mujoco.MjModel) -> bool:
    """Whether the model has what `align_contacts` is for."""
    kinds = set(model.geom_type.tolist())
    return {int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_CAPSULE)} <= kinds


def find_diverged(data: mujoco_warp.Data, diverged: wp.array) -> None:
    """Sets `diverged` [W] where a world holds a number that isn't finite, or one as huge as the C
    engine takes for a blow-up. Controls count, too: MuJoCo Warp clamps a NaN to its range, and a
    policy that is NaN would drive on unseen."""
    wp.launch(
        _find_diverged,
        dim=data.nworld,
        inputs=[data.qpos, data.qvel, data.ctrl, mujoco.mjMAXVAL],
        outputs=[diverged],
    )


@wp.kernel
@no_type_check
def _align_with_capsule(
    geom_type: wp.array(dtype=int),
    geom_xmat: wp.array2d(dtype=wp.mat33),
    num_contacts: wp.array(dtype=int),
    geoms: wp.array(dtype=wp.vec2i),
    world: wp.array(dtype=int),
    frame: wp.array(dtype=wp.mat33),
):
    """The first tangent of a capsule on a plane lies along the capsule, however steep it stands:
    a pyramidal friction cone depends on it. MuJoCo Warp takes a fixed one beyond 60 degrees."""
    contact = wp.tid()
    if contact >= num_contacts[0]:
        return
    pair = geoms[contact]
    if geom_type[pair[0]] != _PLANE or geom_type[pair[1]] != _CAPSULE:
        return
    before = frame[contact]
    normal = wp.vec3(before[0, 0], before[0, 1], before[0, 2])
    turn = geom_xmat[world[contact], pair[1]]
    axis = wp.vec3(turn[0, 2], turn[1, 2], turn[2, 2])
    along = axis - normal * wp.dot(normal, axis)
    length = wp.length(along)
    if length < _STEEP:
        return
    along = along / length
    across = wp.cross(normal, along)
    frame[contact] = wp.mat33(
        normal[0], normal[1], normal[2],
        along[0], along[1], along[2],
        across[0], across[1], across[2],
    )  # fmt: skip


@wp.kernel
@no_type_check
def _find_diverged(
    qpos: wp.array2d(dtype=float),
    qvel: wp.array2d(dtype=float),
    ctrl: wp.array2d(dtype=float),
    limit: float,
    diverged: wp.array(dtype=bool),
):
    world = wp.tid()
    good = wp.bool(True)  # A variable of the kernel, not a constant.
    for i in range(qpos.shape[1]):
        good = good and wp.abs(qpos[world, i]) < limit  # False for NaN
    for i in range(qvel.shape[1]):
        good = good and wp.abs(qvel[world, i]) < limit
    for i in range(ctrl.shape[1]):
        good = good and wp.abs(ctrl[world, i]) < limit
    if not good:
        diverged[world] = True
