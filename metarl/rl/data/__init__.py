"""Experience: from an environment's steps to the tensors that a loss takes.

Read `collect` first: it plays one episode in each world, and it is the only place where training
steps an environment. `record` keeps the steps, and `transfer` brings them to the learner's device.
On a GPU `graphed` plays the same episode from recordings that `cuda_graphs` makes. `rounds`
alternates collecting and adapting, for one meta-update.

`batches` flattens the steps of each task for policy gradients. `trials` joins the episodes that an
agent with a memory plays on one task.

What learners keep of it, apart from their state: `trial_buffer` for model-based ones, `replay` for
off-policy ones. Both stand on `rows`, which can be put back as they were; `stretches` draws from
trials of unequal length.
"""
