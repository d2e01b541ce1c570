"""Meta-gradients: how a learner's start is improved by what happens after it has adapted. No word
of RL or of pictures here.

Read in this order. `params`: arithmetic on dicts of tensors, of one task or stacked over N tasks.
`rules`: one inner step, from parameters and their gradient to new parameters; `lstm_update` is a
rule that is learned, `own_rule` tries out one of a user's own. `adapt`: K inner steps as a
differentiable function, and the same for N tasks at once. `gradients`: how the outer gradient goes
back through these steps; `implicit` goes back without storing them. `judged` is a loss of several
points that the steps pass.

Then the outer step. `descent` is one step of Adam with its checks. `trust_region` is one step of
TRPO; it solves a linear system by products with a matrix that is never formed, which is `linalg`.

Speed: `chunks` works on a few tasks at a time, on several cores. `low_rank` adapts linear layers
without forming the adapted weights, and `linearize` differentiates the adaptation of many tasks
without an autograd graph, from losses that know their derivatives at a point, as `differentiated`
says. Both give the numbers that `adapt` gives, with less work; read them last.

Small things: `checks` of settings, `saved` state that comes back from a file, `quantiles` for
intervals, `whose` tells our classes from someone's own.
"""
