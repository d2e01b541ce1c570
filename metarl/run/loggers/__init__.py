"""Programs that a run's numbers are also given to, while it goes: `loggers=[tensorboard,csv,...]`.

A run's own files, metrics.jsonl and evaluations.jsonl, are always written, and are the truth. What
is here repeats them for who likes to look at them elsewhere. Read `logger` first: what every logger
is told. `opening` makes those that are asked for, and keeps the trouble of a distant server away
from the training. Each has a file: `tensorboard`, `csv_tables`, `wandb_run`, `mlflow_run`.
`sent` tells which rows a server has already. `moving_picture` makes of a video what TensorBoard
can show. A logger of your own is one more such file, and a row in `opening`.
"""
