"""Networks. They know nothing of tasks: a learner gives them the parameters of one task, or of
many tasks at once.

Read `mlp` first, then `heads`, which makes a policy of a network: the distribution of actions and
its maths. `mlp_derivatives` holds the first and second derivatives of such a policy's losses,
written out because that is faster than autograd. `latent` is what a policy may see beside the
observation: a number that is drawn for each episode, and that adaptation moves. `beside` is what it
sees there as a function of its parameters: contexts, and noise made a latent. `parts` has operations
on the tasks of several learners at once that round as for each alone. `modes` refuses layers that
act otherwise in training than afterwards. `own_policy` and `own_memory` try out a network of a
user's own.

For off-policy learners: `squashed` is a policy of bounded actions, `twin` two critics in one pass.
`task_posterior` makes a Gaussian over tasks of what single steps say of them.

Memories, which carry something from one input to the next: `recurrent` says what a memory is,
with GRU and LSTM; `gru_sequence` is a GRU over a whole sequence, its derivatives written out because
that is faster than torch's layer where rows are few; `transformer` is one that looks back at all inputs; `external_memory` has slots
that are written and read by content. `dynamics` predicts what an action does, for planning;
`normaliser` keeps the running mean and deviation of what goes in and comes out.

Pictures: `conv` is the small convolutional network of the few-shot literature, `batch_norm` its
normalisation, right also in second order, and `features` what few-shot learners build on.

Of learners that infer what the task is: `trial_encoder` makes a belief of the steps so far, a value
of `gaussians`, and `step_decoders` say what a belief expects of steps.
"""
