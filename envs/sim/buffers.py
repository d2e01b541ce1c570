"""How many contacts and constraint rows a world can have at once: buffers on a GPU are made once,
and what doesn't fit into them is left out."""

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco

_G = mujoco.mjtGeom
_PLANE, _FIELD, _SPHERE, _CAPSULE = (
    _G.mjGEOM_PLANE,
    _G.mjGEOM_HFIELD,
    _G.mjGEOM_SPHERE,
    _G.mjGEOM_CAPSULE,
)
_ELLIPSOID, _CYLINDER, _BOX = _G.mjGEOM_ELLIPSOID, _G.mjGEOM_CYLINDER, _G.mjGEOM_BOX

_MOST = {
    (_PLANE, _SPHERE): 1,
    (_PLANE, _CAPSULE): 2,
    (_PLANE, _ELLIPSOID): 1,
    (_PLANE, _CYLINDER): 4,
    (_PLANE, _BOX): 4,
    (_SPHERE, _SPHERE): 1,
    (_SPHERE, _CAPSULE): 1,
    (_SPHERE, _ELLIPSOID): 1,
    (_SPHERE, _CYLINDER): 1,
    (_SPHERE, _BOX): 1,
    (_CAPSULE, _CAPSULE): 2,
    (_CAPSULE, _CYLINDER): 4,
    (_CAPSULE, _BOX): 2,
}
"""The most contacts of a pair of shapes."""

_MOST_OF_OTHERS, _MOST_OF_FIELDS = 8, 50
"""The most contacts of pairs that aren't in the table, such as two boxes; and of a height field, as
in the C engine."""

_MOST_CONVEX = 16


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """What one world needs at most."""

    contacts: int
    convex_contacts: int
    """Contacts among those between shapes without a formula of their own, such as two cylinders.
    Each takes 6 KiB, so by default there are fewer than could be."""
    rows: int
    """Rows of constraints: contacts with their friction, limits, equalities, friction of joints."""


def buffers(model: mujoco.MjModel, max_contacts: int | None = None) -> Buffers:
    """Returns what no state of `model` can exceed.

    Args:
      max_contacts: another number of contacts than that of all pairs touching at once; all of them
        may then be between convex shapes.
    """
    pairs = list(_pairs(model))
    contacts = sum(most for most, _ in pairs)
    of_contacts = sum(most * rows for most, rows in pairs)
    if max_contacts is not None:
        contacts = max_contacts
        of_contacts = max_contacts * max((rows for _, rows in pairs), default=1)
    friction = sum(
        int((loss > 0).sum()) for loss in (model.dof_frictionloss, model.tendon_frictionloss)
    )
    limits = int(model.jnt_limited.sum()) + int(model.tendon_limited.sum())
    contacts = max(contacts, 1)
    return Buffers(
        contacts=contacts,
        convex_contacts=min(contacts, _MOST_CONVEX) if max_contacts is None else contacts,
        rows=max(of_contacts + limits + friction + 6 * model.neq, 1),
    )


def _pairs(model: mujoco.MjModel) -> Iterator[tuple[int, int]]:
    """(most contacts, rows of each) of every pair of geoms that can touch."""
    for pair in range(model.npair):
        geoms = int(model.pair_geom1[pair]), int(model.pair_geom2[pair])
        yield _most(model, *geoms), _rows(model, int(model.pair_dim[pair]))
    for a in range(model.ngeom):
        for b in range(a + 1, model.ngeom):
            if _can_touch(model, a, b):
                yield _most(model, a, b), _rows(model, _dimensions(model, a, b))


def _can_touch(model: mujoco.MjModel, a: int, b: int) -> bool:
    """Tells whether two geoms can touch in any state, as MuJoCo's broad phase decides."""
    bodies = [int(model.geom_bodyid[geom]) for geom in (a, b)]
    if (min(bodies) << 16) + max(bodies) in model.exclude_signature:
        return False
    first, second = (int(model.body_weldid[body]) for body in bodies)
    if first == second:
        return False
    parents = [int(model.body_weldid[model.body_parentid[weld]]) for weld in (first, second)]
    if first and second and (parents[0] == second or parents[1] == first):
        return bool(model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_FILTERPARENT)
    kinds = zip(model.geom_contype[[a, b]], model.geom_conaffinity[[b, a]], strict=True)
    return any(int(kind) & int(affinity) for kind, affinity in kinds)


def _most(model: mujoco.MjModel, a: int, b: int) -> int:
    shapes = sorted(int(model.geom_type[geom]) for geom in (a, b))
    others = _MOST_OF_FIELDS if _FIELD in shapes else _MOST_OF_OTHERS
    return _MOST.get((_G(shapes[0]), _G(shapes[1])), others)


def _dimensions(model: mujoco.MjModel, a: int, b: int) -> int:
    """1 without friction, else 3, 4 or 6: the geom of higher priority decides, or the larger."""
    (first, second), (mine, theirs) = model.geom_priority[[a, b]], model.geom_condim[[a, b]]
    return int(max(mine, theirs) if first == second else mine if first > second else theirs)


def _rows(model: mujoco.MjModel, dimensions: int) -> int:
    """A pyramid has two edges for each direction of friction."""
    pyramid = model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
    return 2 * (dimensions - 1) if pyramid and dimensions > 1 else dimensions
