"""From an environment's spaces to a network that fits them.

`policies` makes policies without memory. `memory` holds agents with a memory: what reaches it, and
the heads on it. `dynamics` makes models of what actions do, for planning. The networks themselves
are in metarl/nn.
"""
