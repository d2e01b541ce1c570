"""Meta-reinforcement learners, a file each. All of them meet the protocol
`metarl.types.MetaLearner`.

Read `maml_trpo` first: MAML as it was published. `maml_ppo` is the same with PPO as its outer
step, and with other settings it is ProMP. `rl2_ppo` adapts by what its memory holds, without any
gradient step. `memoryless_ppo` can't adapt: the others must beat it.

`recurrent_mbrl` and `grbal` learn a model of the task and plan with it, one by memory and one by
inner gradient steps.

`shared` is what gradient learners and those with a memory do alike, `model_based` what the two
that plan do alike.
"""
