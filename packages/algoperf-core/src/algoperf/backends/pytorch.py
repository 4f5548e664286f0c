"""Everything that PyTorch workloads have in common: devices, DDP, parameters, evaluation.

One process drives one device; several processes are started by torchrun and joined by DDP.
"""

import abc
import atexit
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree

from algoperf.backends import Backend
from algoperf.data.batches import Shards
from algoperf.seeds import stable_hash
from algoperf.spec import (
    ForwardPassMode,
    Framework,
    LossType,
    ModelAuxiliaryState,
    ModelInitState,
    ParameterType,
    RandomState,
    ShapeTuple,
)
from algoperf.workload import EvalOutput, Workload

# Far more than letting go of a tensor takes, and nothing beside the start of a process.
_LETTING_GO_S = 0.2


class Process(NamedTuple):
    """Which device this process has, and how many processes there are."""

    use_ddp: bool
    rank: int
    device: torch.device
    num_processes: int


def this_process() -> Process:
    """What torchrun says in the environment: `LOCAL_RANK` and `WORLD_SIZE`; without it, one process."""
    use_ddp = "LOCAL_RANK" in os.environ
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device(f"cuda:{rank}" if torch.cuda.is_available() else "cpu")
    return Process(use_ddp, rank, device, int(os.environ.get("WORLD_SIZE", "1")) if use_ddp else 1)


def _leave_process_group() -> None:
    """Before the interpreter ends.

    Gloo's threads may still hold the tensors of the last collective, and take the interpreter's lock to let go of them.
    One that takes it when the interpreter is ending aborts the process, after all work is done. Sleeping gives them the
    lock.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    time.sleep(_LETTING_GO_S)


class TorchBackend(Backend):
    """The device of this process, joined with the others' under torchrun."""

    framework = Framework.PYTORCH
    params_type = nn.Module

    def __init__(self) -> None:
        self.process = this_process()
        self.device = self.process.device
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.process.use_ddp and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            atexit.register(_leave_process_group)

    @property
    def shards(self) -> Shards:
        """One shard per process."""
        return Shards(self.process.num_processes, range(self.rank, self.rank + 1))

    @property
    def rank(self) -> int:
        """This process's number among those that torchrun started."""
        return self.process.rank

    @property
    def num_processes(self) -> int:
        """How many torchrun started."""
        return self.process.num_processes

    def begin_step(self, seed: int, step: int) -> None:
        """Seeds torch, so that dropout depends on the seed, the step and the rank alone."""
        # The generators themselves: `torch.manual_seed` takes 100 µs, because it visits every kind of device.
        for generator in self._generators:
            generator.manual_seed(stable_hash(seed, step, self.rank) >> 1)

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        host = torch.default_generator
        return [host] if self.device.type == "cpu" else [host, torch.cuda.default_generators[self.device.index]]

    def place_state(self, state: Any) -> Any:
        """The state itself: a PyTorch submission makes it where the model is."""
        return state

    def place_batch(self, batch: Any) -> Any:
        """Tensors on this process's device."""
        return pytree.tree_map(self._tensor, batch)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def wait(self, *state: Any) -> None:
        """Waits for the device, then for the other processes."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.process.use_ddp:
            dist.barrier()

    def latest(self, seconds: float) -> float:
        """The largest of the processes' values."""
        if not self.process.use_ddp:
            return seconds
        value = torch.tensor(seconds, dtype=torch.float64, device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return value.item()

    def gather(self, outputs: list[Any]) -> list[Any]:
        """The processes' lists, joined in the order of their ranks."""
        if not self.process.use_ddp:
            return outputs
        lists: list[list[Any]] = [[] for _ in range(self.num_processes)]
        dist.all_gather_object(lists, outputs)
        return [output for part in lists for output in part]

    def to_host(self, output: Any) -> Any:
        """Copies tensors to the host."""
        # Also those that are there: small ones that are kept, between large ones that are not, scatter the heap.
        return pytree.tree_map(lambda tensor: tensor.detach().cpu().numpy().copy(), output)

    def all_finite(self, params: nn.Module) -> bool:
        """Whether every parameter is a finite number."""
        return all(bool(torch.isfinite(p).all()) for p in params.parameters())

    def is_lost_device(self, error: BaseException) -> bool:
        """Whether another process, or the device, is gone."""
        gone = ("ECC error", "device is lost", "No CUDA GPUs are available", "devices are busy or unavailable")
        return isinstance(error, dist.DistBackendError) or any(words in str(error) for words in gone)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether a device, or the host's allocator, had no memory left."""
        return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)

    def hardware(self) -> dict[str, Any]:
        """Platform, kind and number of devices, and torch's version."""
        is_cuda = self.device.type == "cuda"
        return {
            "framework_version": torch.__version__,
            "device_platform": self.device.type,
            "device_kind": torch.cuda.get_device_name(self.device) if is_cuda else "cpu",
            "device_count": self.num_processes,
        }

    def dump_leaf(self, leaf: Any) -> tuple[np.ndarray, Any] | None:
        """A tensor; the note says its dtype, which numpy may not have, its place and its order in memory."""
        if not isinstance(leaf, torch.Tensor):
            return None
        note = {
            "dtype": str(leaf.dtype).removeprefix("torch."),
            "host": leaf.device.type == "cpu",
            "channels_last": _is_channels_last(leaf),
        }
        tensor = leaf.detach().cpu()
        if tensor.dtype is torch.bfloat16:
            tensor = tensor.view(torch.int16)
        return tensor.numpy(), note

    def load_leaf(self, array: np.ndarray, note: Any, template: Any) -> torch.Tensor:
        """The tensor, on the host if it was there, else on this process's device."""
        tensor = torch.from_numpy(array.copy())
        if note["dtype"] == "bfloat16":
            tensor = tensor.view(torch.bfloat16)
        if note["channels_last"]:
            # In another order than its parameter's, an optimizer's state would be updated slowly from here on.
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor if note["host"] else tensor.to(self.device)

    def unwrapped(self, value: Any) -> Any:
        """The model in DDP, so that its parameters have the same names on any number of processes."""
        return value.module if isinstance(value, DistributedDataParallel) else value

    def dump_node(self, node: Any) -> tuple[Sequence[Any], Any] | None:
        """None: PyTorch has no containers of its own; what has a `state_dict` saves itself."""
        return None

    def load_node(self, cls: type, children: Sequence[Any], data: Any) -> Any:
        """Never called, because `dump_node` finds nothing."""
        raise AssertionError(f"{cls} was not saved by PyTorch.")


def _is_channels_last(tensor: torch.Tensor) -> bool:
    is_image = tensor.ndim == 4 and not tensor.is_contiguous()
    return is_image and tensor.is_contiguous(memory_format=torch.channels_last)


class TorchWorkload(Workload):
    """A workload in PyTorch. Its parameters are an `nn.Module`, wrapped in DDP under torchrun."""

    framework = Framework.PYTORCH
    backend: TorchBackend

    @abc.abstractmethod
    def build_model(self) -> nn.Module:
        """The model, initialised from torch's global generator; on the "meta" device it takes no memory."""

    @abc.abstractmethod
    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """What the parameter `name` of the module that owns it is for."""

    def init_model_fn(self, rng: RandomState) -> ModelInitState:
        """The model with fresh parameters, the same on every rank and device; there is no separate model state."""
        # Initialised on the host, whatever the device, so that a seed means the same model everywhere.
        torch.manual_seed(int(np.asarray(rng, np.uint32).view(np.uint64)[0]) >> 1)
        model = self.build_model().to(self.backend.device)
        if self.backend.process.use_ddp:
            device_ids = [self.backend.device] if self.backend.device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=device_ids)
        return model, None

    @staticmethod
    def set_mode(params: nn.Module, mode: ForwardPassMode) -> None:
        """Training or evaluation mode, on every call of `model_fn`: no submission has to think of it."""
        is_training = mode is ForwardPassMode.TRAIN
        # All of them: a submission may have changed some, or those within a wrapper.
        if any(module.training is not is_training for module in params.modules()):
            params.train(is_training)

    @cached_property
    def _meta_model(self) -> nn.Module:
        with torch.device("meta"):
            return self.build_model()

    @property
    def param_shapes(self) -> dict[str, ShapeTuple]:
        """A `ShapeTuple` for each parameter's name."""
        return {name: ShapeTuple(tuple(p.shape)) for name, p in self._meta_model.named_parameters()}

    @property
    def model_params_types(self) -> dict[str, ParameterType]:
        """A `ParameterType` for each parameter's name."""
        modules = dict(self._meta_model.named_modules())
        return {
            name: self.parameter_type(modules[name.rpartition(".")[0]], name.rpartition(".")[2])
            for name, _ in self._meta_model.named_parameters()
        }

    def parameters(self) -> list[dict[str, Any]]:
        """`name`, `shape`, `dtype` and `type` of every parameter, without making one."""
        types = self.model_params_types
        return [
            {
                "name": name,
                "shape": list(p.shape),
                "dtype": str(p.dtype).removeprefix("torch."),
                "type": types[name].name,
            }
            for name, p in self._meta_model.named_parameters()
        ]

    def compiled_eval_step(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """`eval_step` without gradients."""
        with torch.no_grad():
            return self.eval_step(params, model_state, batch, rng)

    def predict(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> Any:
        """Logits without gradients."""
        with torch.no_grad():
            mode = ForwardPassMode.EVAL
            return self.backend.to_host(
                self.model_fn(params, batch, model_state, mode, rng, update_batch_norm=False)[0]
            )

    def _activations(self) -> Mapping[LossType, Any]:
        return {
            LossType.SOFTMAX_CROSS_ENTROPY: lambda x: torch.softmax(x, dim=-1),
            LossType.SIGMOID_CROSS_ENTROPY: torch.sigmoid,
            LossType.MEAN_SQUARED_ERROR: lambda x: x,
            LossType.MEAN_ABSOLUTE_ERROR: lambda x: x,
            LossType.CTC_LOSS: lambda x: torch.log_softmax(x, dim=-1),
        }
