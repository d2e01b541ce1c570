"""The room of the arm: a 7-joint arm with a gripper that reaches, grasps and carries.

Read in this order: env.py (observation, reward and the table of variants), tasks.py (goals and
objects, and which are held out), control.py (how an action moves the joints), objects.py (how a
task's object comes into the physics), state.py (where grip and object are, and whether it is held),
script.py (controllers that see everything).
"""
