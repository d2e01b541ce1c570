"""What tests of few-shot learners share: the learners by name, and small feature networks."""

from metarl.nn.conv import Conv4
from metarl.nn.features import PerceptronFeatures

LEARNERS = (
    *("maml", "fomaml", "anil", "meta_sgd", "reptile", "protonet", "matching", "mann", "lstm"),
    *("meta_lstm", "cnp", "maml_memory", "pretrain", "nearest_neighbour", "nearest_embedding"),
)

PICTURE = (1, 16, 16)

BACKBONES = {
    "conv4": lambda g: Conv4(PICTURE, filters=2, strided=False, generator=g),
    "conv4 strided": lambda g: Conv4(
        PICTURE, filters=2, strided=True, mean_pooled=True, generator=g
    ),
    "mlp with batch norm": lambda g: PerceptronFeatures(
        PICTURE, sizes=[5, 4], batch_norm=True, generator=g
    ),
    "mlp": lambda g: PerceptronFeatures(PICTURE, sizes=[5, 4], batch_norm=False, generator=g),
}
"""A generator -> a network for pictures [1, 16, 16], by name."""
