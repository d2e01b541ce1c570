"""What a user reads of a finished run: numbers, tables, pictures and films.

Read `evaluation` first: it measures a trained learner of reinforcement learning and writes what
it found. `facts` adds what an evaluation says besides returns. `fewshot` is the same for few-shot
learners, `seeds` what several seeds say together. `held_out` makes rows of numbers of evaluations,
those on the way too.

Several runs: `run_places` finds them, `finished` reads them, `algo_name` says what their
algorithms are called, `recorded` reads what others published, `learners` works out what the seeds
of each learner say together, `learners_table` and `learners_plot` show it. `summary` says in a row
what a learner comes to, `summary_table` writes these rows, and `page` makes of all of it a page for
the browser. `fewshot_learners` reads few-shot runs and puts them together. `markdown`, `latex` and
`csv_table` write tables.

Pictures: `plots` says how our plots look, and draws how training went, which `training_curve` works
out. `adaptation_plot` draws an evaluation, `fewshot_plots` few-shot tasks with the answers to them, `estimator_plot` what
estimators of the meta-gradient are worth. Films: `panels` lays out one moment as a picture, `video`
plays episodes and writes such pictures one after another. Of learners that infer their task,
`belief_panel` draws what is believed beside a moment, and `belief_plot` over a whole trial.
"""
