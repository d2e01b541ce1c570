"""Makes networks that fit an environment's spaces.

`policies` makes policies without memory. `memory` holds agents with a memory: what reaches it, and
the heads on it; `recurrent_actor_critic` is one of actor and critics that share nothing. `belief`
holds agents that act on what they believe of their task: what reaches the belief, what teaches it,
and the heads on it; `published_weights` draws their first weights as the authors do. `pearl`
has what infers a task and what is told of it. `unit_actions` lies between their actions, in
[−1, 1], and those of an environment. `dynamics` makes models of what actions do, for planning. The
networks themselves are in metarl/nn.
"""
