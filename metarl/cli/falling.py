"""Says before a training which of its steps will have become too small, long before its end, for it
to learn on."""

from omegaconf import DictConfig

from metarl.cli.configs import shown
from metarl.cli.run_folder import say
from metarl.core.descent import halving

FALLING = ("outer_lr", "max_kl")
"""Settings that say how far an outer step goes; an algorithm may have their `<name>_half_life`."""

LEAST = 0.01
"""The share of such a setting that should be left in the end."""


def say_how_far(config: DictConfig) -> None:
    """Names what will have fallen below `LEAST`, unless nothing will."""
    for name in FALLING:
        half_life = config.algo.get(f"{name}_half_life")
        left = halving(half_life) ** config.iterations
        if left < LEAST:
            say(
                f"algo.{name}_half_life={shown(half_life)}: with iterations={config.iterations} "
                f"{left:.1g} of {name} is left in the end, too little to learn from; a longer "
                "half-life, or null, leaves more"
            )
