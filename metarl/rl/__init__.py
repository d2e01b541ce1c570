"""Meta-reinforcement learning: tasks are environments that differ in a goal or in their physics.
MuJoCo isn't seen from here.

Read `types` first: steps, trajectories, tasks, and the protocols of environments and adapters.
`collect` plays episodes, and it is the only place where training steps an environment.
`algorithms` holds the learners.

From trajectories to a loss: `returns` gives returns and advantages, `baselines` fits what is
subtracted from them, `batches` flattens the steps of each task, `losses` are the policy-gradient
losses. `gather` collects all that one meta-update of a gradient learner needs. `trials` joins the
episodes that an agent with a memory plays on one task.

What learners keep of it, apart from their state: `trial_buffer` for model-based ones, `replay` for
off-policy ones. Both stand on `rows`, which can be put back as they were; `stretches` draws from
trials of unequal length.

From an environment's spaces to a network: `policies`, `memory_model` and `models` (of what
actions do). `planning` searches for good actions with such a model.

How learners meet a new task, an adapter each: `gradient_adapter`, `memory_adapter`,
`planning_adapter`, and `uniform_actions`, which learns nothing.

How well they do it: `evaluate` plays held-out tasks, `references` is what stands beside a
learner, `fixed_speeds` what can be earned without adapting, `within_episode` what changes during
an episode. What the numbers say of new tasks: `statistics`, `proportions` of successes, and
`several_runs` together.

What estimators of the meta-gradient are worth: `meta_gradient_estimators` sets them beside the
exact one of an MDP whose trajectories are all listed, `enumerated`.
"""
