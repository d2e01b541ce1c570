"""Facts about packing a tree of tensors into one."""

import torch

from metarl.rl.adapters.one_tensor import OneTensor


def test_a_tree_comes_back_with_its_shapes_and_types() -> None:
    tree = {"a": torch.rand(1, 3), "b": (torch.tensor([2]), torch.zeros(1, 0), torch.rand(2, 2))}
    packed = OneTensor(tree)
    flat = packed.flat(tree)
    assert flat.shape == (8,) and flat.dtype == torch.float32
    again = packed.tree(flat)
    torch.testing.assert_close(again, tree, rtol=0, atol=0)
    assert again["b"][0].dtype == torch.int64
