"""Meta-reinforcement learners, a file each. All of them meet the protocol
`metarl.types.MetaLearner`.

Read `maml_trpo` first: MAML as it was published. `maml_ppo` is the same with PPO as its outer
step, and with other settings it is ProMP or DiCE-MAML; `ppo_epoch` is a pass over its data, of
several seeds at once. Most others of the family (docs/learners.md) are settings of `maml_trpo`;
`exploration` is E-MAML's term. `reptile` has no meta-gradient.

`rl2_ppo` adapts by what its memory holds, without any gradient step. `memoryless_ppo` can't adapt:
the others must beat it. `varibad` adapts by what it believes of its task, which it learns apart
from how to act. `ppo` is what these three do alike.

Off-policy, from a replay: `pearl` infers the task from a few steps, and `pearl_play` is what it
plays for that. `rl2_offpolicy` is `rl2_ppo`'s agent with soft actor-critic in place of PPO.

`recurrent_mbrl` and `grbal` learn a model of the task and plan with it, one by memory and one by
inner gradient steps.

Without meta-learning, by Stable-Baselines3: `multitask` trains one policy on all tasks, to be
fine-tuned; `oracle` is that policy where the task is shown; `scratch` begins anew on each task.

`together` lets several learners gather in one simulation. `shared` is what most of them do alike,
`model_based` what the two that plan do alike.
"""
