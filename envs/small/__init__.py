"""The room of small worlds: no physics, a few numbers of state, and optima that are known.

Read in this order: point.py (a point in the plane) with its problems point_navigation.py and
point_sparse.py; bandit.py with bandit_policies.py (Gittins indices and others); tabular_mdp.py with
tabular_planning.py (backward induction, posterior sampling); gridworld.py with gridworld_optima.py
(the best search) and gridworld_policies.py. drawing.py is what their pictures share.
"""
