"""The room of robots: tasks for Gymnasium's MuJoCo models and for an arm of our own, on the
simulators of envs/sim.

Read in this order: env.py (what an MDP is, and how one becomes W worlds), half_cheetah.py (a family
on a page: an MDP, and the table of its variants), variant.py (what a row of that table says, and
what is made of it), models.py (the files with the physics). Then what families share: targets.py
(tasks of running and going), scaled_physics.py (tasks that change masses and friction), upright.py
(robots that can fall), motion.py and planar.py (velocities). The other families are ant.py,
humanoid.py, swimmer.py, walker2d.py, hopper.py, reacher.py and arm/. Pictures are made by
render.py, for which gl.py finds a library.
"""
