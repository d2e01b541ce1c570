"""The report: one HTML page, which needs no network, with all that a comparison says.

Read `content` first: it gathers what a page says of some runs. `measures` works out what its charts
show, `charts` and `task_charts` draw them with Plotly for the page, out of the pieces of `chart`,
and `figures` with Matplotlib for a paper. `films` finds the videos of the runs, `provenance` says
where their numbers come from, and `html` puts all of it together.

Few-shot runs: `fewshot` gathers what their page says, `fewshot_measures` says it in numbers and
words, `fewshot_charts` draws its charts, and `fewshot_figures` those for a paper.
"""
