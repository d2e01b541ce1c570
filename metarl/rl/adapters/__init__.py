"""How learners meet a new task, an adapter each. All of them meet `metarl.rl.types.RLAdapter`.

`gradient` takes inner steps on what was collected, with `latent_rule` for the latent of a policy
that has one (`latent_bound` says how little outer updates leave of it), and `own_loss` for an inner
loss of a user's own. `memory` lets a recurrent state go
on from episode to episode. `belief` does so with what is believed of the task, on which the policy
acts. `posterior` infers the task from all steps so far and holds a guess of it for an episode.
`one_tensor` packs what a policy remembers for a file.
`own_adapter` asks one of a user's own whether its states are values.
`fine_tuning` lets an expert of Stable-Baselines3 go on learning on each task. `planning` searches
with a model that adapts or remembers. `uniform` acts at random and learns nothing. `together` is an
adapter over those of several learners.
"""
