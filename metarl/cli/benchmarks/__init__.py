"""What the command `benchmark` measures: each thing beside a reference, in one interleaved run.

Read `interleaved` first: how two things are timed on a machine that does other work, too. `rows`
makes a table of many such comparisons. `sim` measures physics and collection (`collection`, a
`raw_loop` in C, others' `vector_envs`), `update` the meta-updates of policies (`policy_updates`, `memory_updates`,
`off_policy_updates`, `advantages`), `fewshot` the supervised ones (`few_shot_updates`),
`iteration` a whole training iteration, or with `chunks` its update with so many tasks at a time,
`plan` planning with a model, `seeds` several seeds in one simulation.

On a GPU: `rates` of physics, `launches` between two control steps; `parity` is about numbers, not
time: how far MuJoCo Warp is from MuJoCo's C engine. `gpu` asks all of it in nine minutes.
"""
