"""What a process sets for the device that it computes on."""

import torch


def used(device: torch.device) -> torch.device:
    """Makes a GPU this process's own, and has it compute in float32. Returns the device.

    By default cuDNN rounds what goes into recurrent layers and convolutions to TF32, with 10 bits
    for a number's digits. An agent's memory, which is computed step by step while it acts and as a
    sequence while it learns, would be another one then.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False  # unless the shell says so, as containers do
        if device.index is not None:
            torch.cuda.set_device(device)
    return device
