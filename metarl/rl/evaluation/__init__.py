"""How well learners adapt, and what the numbers say of new tasks.

Read `curve` first: it plays held-out tasks after 0, 1, ... updates. `references` plays what stands
beside a learner, `fixed_speeds` is what can be earned without adapting, and `within_episode` is
what changes during an episode.

`statistics` gives intervals over tasks, `proportions` those of successes. `several_runs` puts
training runs of several seeds together.
"""
