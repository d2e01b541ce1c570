"""A run from its first iteration to its last, whatever learns in it: this room knows no algorithm
and no environment.

Read `train` first: the one training loop. `training` is a run on its way, with what it writes and
when. `together` is the loop for several runs that gather their data at the same time. `distributed`
is how several processes share the work of one, `stopping` what Ctrl-C does. `iteration` does one
step of the learner, all of it or nothing. `seeding` makes the named random streams from one seed,
`global_streams` lets code that draws from torch's, numpy's and Python's own follow it, too,
`device` sets what a GPU needs.

`checkpoint` saves a run so that a crash at any moment costs little, `shards` what its learner has
gathered, both as files that `archive` makes; `saver` does both. `memory` tells whether what a
learner takes is there. `lock` lets one process at a time write into a run folder.

`log` writes numbers while the run goes, as files of `rows`, and `loggers` passes them on to other
programs. `held_out` keeps the state that held-out tasks find best. `progress` shows how far the run
is, and `shown` which numbers beside it. `timing` measures how fast the machine was.
"""
