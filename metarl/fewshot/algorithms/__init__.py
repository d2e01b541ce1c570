"""Few-shot learners, a file each. All of them meet the protocol `metarl.types.MetaLearner`.

Read `maml` first: inner gradient steps from a start that is learned. MAML, FOMAML, ANIL and
Meta-SGD are this file with other settings. `reptile` moves its start towards where inner steps
lead, `meta_lstm` learns the inner step itself.

Learners without inner steps: `episodic` trains any function that answers from the support set;
`protonet`, `matching` and `cnp` are such functions. `mann` reads its examples one by one into a
memory, `maml_memory` adds inner steps to that.

What all must beat: `pretrain` and `nearest_neighbour`. `shared` is what several of them do alike.
"""
