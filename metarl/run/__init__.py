"""A run from its first iteration to its last, whatever learns in it: this room knows no algorithm
and no environment.

Read `train` first: the one training loop. It calls all the others. `seeding` makes the named
random streams from one seed. `checkpoint` saves a run so that a crash at any moment costs little.
`logging` writes metrics while the run goes, and shows how far it is. `timing` measures how fast
the machine was. `lock` lets one process at a time write into a run folder.
"""
