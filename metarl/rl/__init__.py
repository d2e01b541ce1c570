"""Meta-reinforcement learning: tasks are environments that differ in a goal or in their physics.
MuJoCo isn't seen from here.

Read `types` first: steps, trajectories, tasks, and the protocols of environments and adapters.
`spec` says which problem a number belongs to. `absent_env` stands for an environment that isn't here.

The rooms, in the order in which training goes through them: `models` makes a network that fits an
environment. `adapters` are how learners meet a new task with it. `data` plays episodes, and
arranges them for a loss. `algorithms` holds the learners, and `sb3` the algorithms of
Stable-Baselines3 that learners without meta-learning use. `evaluation` says how well they adapt.

What learners compute with lies beside the rooms. `returns` gives returns and advantages,
`baselines` fits what is subtracted from them, and `losses` are the policy-gradient losses.
`reward_scale` divides rewards by what they add up to. `soft_actor_critic` has the targets of
off-policy learners. `elbo` is the bound that teaches a
learner what its tasks are.
`planning` searches for good actions with a model of what actions do.

What estimators of the meta-gradient are worth: `meta_gradient_estimators` sets them beside the
exact one of an MDP whose trajectories are all listed, `enumerated`.
"""
