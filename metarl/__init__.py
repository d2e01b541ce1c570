"""Meta-reinforcement learning. `import metarl` makes its environments known to Gymnasium, and loads
nothing else."""

from metarl.gymnasium_plugin import register

register()
