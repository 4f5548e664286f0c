"""The public names that PyTorch submissions import."""

import torch

from algoperf.backends.pytorch import this_process


def pytorch_setup() -> tuple[bool, int, torch.device, int]:
    """Whether DDP is used, this process's rank and device, and the number of GPUs.

    Submissions call this when they are imported, so the environment of torchrun is read here, each time.
    """
    process = this_process()
    num_gpus = process.num_processes if process.use_ddp else torch.cuda.device_count()
    return process.use_ddp, process.rank, process.device, num_gpus
