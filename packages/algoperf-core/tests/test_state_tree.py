"""States of all kinds that public submissions keep come back from a checkpoint as they were."""

import collections
import enum
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf import backends
from algoperf.checkpoint import Checkpoints
from algoperf.spec import Framework
from algoperf.state_tree import Decoder, Encoder, StateError
from algoperf.testing.frameworks import require


class Pair(NamedTuple):
    first: object
    second: object


class Count:
    __slots__ = ("__hidden", "total")

    def __init__(self):
        self.total = self.__hidden = 0

    def add(self):
        self.total += 1
        self.__hidden += 1

    @property
    def both(self):
        return self.total, self.__hidden


class Stepper:
    """An optimizer that is none of PyTorch's: a plain object that holds the parameters."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.momenta = [p.detach().clone() for p in self.parameters]
        self.first = self.momenta[0]
        self.of = {p: i for i, p in enumerate(self.parameters)}
        self.num_steps = 0

    def step(self):
        self.num_steps += 1
        for p, momentum in zip(self.parameters, self.momenta, strict=True):
            momentum.mul_(0.9).add_(p.grad)
            p.data.sub_(momentum, alpha=0.1 / (1 + self.of[p]))


class Colour(enum.Enum):
    RED = 1


@dataclass
class Settings:
    rate: float
    history: list


def round_trip(backend, value, template=None):
    encoder = Encoder(backend)
    node = encoder.encode(value)
    return Decoder(backend, encoder.arrays).decode(node, template)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=10,
)


@given(plain)
@settings(deadline=None)
def test_plain_values(value):
    require(Framework.PYTORCH)
    backend = backends.load(Framework.PYTORCH)
    assert round_trip(backend, value) == value


def test_containers_and_objects(framework):
    backend = backends.load(framework)
    value = {
        "pair": Pair(1, [Pair("a", None)]),
        "set": {1, 2},
        "deque": collections.deque([1.5, 2.5]),
        "ordered": collections.OrderedDict(b=1, a=2),
        "object": Settings(0.1, [1, 2]),
        "numpy": np.arange(6, dtype=np.int16).reshape(2, 3),
        "scalar": np.float32(1.25),
        "enum": Colour.RED,
        ("tuple", 1): float("inf"),
    }
    restored = round_trip(backend, value)
    assert str(restored) == str(value)
    assert type(restored["scalar"]) is np.float32
    assert restored["numpy"].dtype == np.int16
    assert list(restored["ordered"]) == ["b", "a"]


def test_what_no_file_can_hold_is_taken_from_a_fresh_start(framework):
    backend = backends.load(framework)
    state = ({"count": 3}, test_plain_values)
    assert round_trip(backend, state, ({"count": 0}, test_plain_values)) == state
    with pytest.raises(StateError, match=r"state\[1\] held a builtins:function"):
        round_trip(backend, state)


def test_a_random_generator_goes_on_where_it_was(framework):
    generator = np.random.default_rng(3)
    generator.random(5)
    restored = round_trip(backends.load(framework), generator)
    assert restored.random() == generator.random()


def test_types_are_not_imported(framework):
    backend = backends.load(framework)
    node = {"is": "namedtuple", "type": "antigravity:Anything", "items": []}
    with pytest.raises(StateError, match="not loaded here"):
        Decoder(backend, []).decode(node, None)


def test_jax_nodes_and_changes_of_structure():
    require(Framework.JAX)
    import jax
    import jax.numpy as jnp
    import optax

    class Offloaded:
        def __init__(self, array, note):
            self.array, self.note = array, note

    jax.tree_util.register_pytree_node(
        Offloaded, lambda o: ((o.array,), o.note), lambda note, children: Offloaded(children[0], note)
    )
    backend = backends.load(Framework.JAX)
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3, jnp.bfloat16)}
    optimizer = optax.multi_transform({"a": optax.adam(1e-3), "b": optax.sgd(1e-3)}, {"w": "a", "b": "b"})
    fresh = (Pair(None, Offloaded(np.zeros(3), ("x", 1))), optimizer.init(params), optimizer.update)
    # What was None holds parameters now.
    state = (Pair(params, Offloaded(np.arange(3.0), ("x", 2))), optimizer.init(params), optimizer.update)
    restored = round_trip(backend, state, fresh)
    assert jax.tree.structure(restored[:2]) == jax.tree.structure(state[:2])
    for old, new in zip(jax.tree.leaves(state[:2]), jax.tree.leaves(restored[:2]), strict=True):
        assert type(old) is type(new)
        assert old.dtype == new.dtype
        assert (np.asarray(old) == np.asarray(new)).all()
    key = jax.random.key(3)
    assert (jax.random.uniform(round_trip(backend, key)) == jax.random.uniform(key)).all()


def test_torch_optimizers_schedulers_and_tensors():
    require(Framework.PYTORCH)
    import torch

    def make():
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        first = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3)
        second = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, second], [3])
        return {
            "model": model,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "flag": True,
            "average": torch.ones(3, dtype=torch.bfloat16),
            "hyperparameters": Pair(1, 2),
        }

    def train(state, steps):
        for i in range(steps):
            state["model"](torch.full((4, 3), float(i))).square().sum().backward()
            state["optimizer"].step()
            state["optimizer"].zero_grad()
            state["scheduler"].step()

    backend = backends.load(Framework.PYTORCH)
    state = make()
    train(state, 5)
    restored = round_trip(backend, state, make())
    train(state, 7)
    train(restored, 7)
    assert torch.equal(state["model"].weight, restored["model"].weight)
    assert state["scheduler"].get_last_lr() == restored["scheduler"].get_last_lr()
    assert restored["average"].dtype is torch.bfloat16
    assert restored["flag"] is True
    assert restored["hyperparameters"] == Pair(1, 2)


def test_a_tensor_keeps_its_order_in_memory():
    require(Framework.PYTORCH)
    import torch

    backend = backends.load(Framework.PYTORCH)
    kernel = torch.arange(48.0).reshape(2, 3, 4, 2)
    state = {"first": kernel, "last": kernel.contiguous(memory_format=torch.channels_last)}
    restored = round_trip(backend, state, {"first": None, "last": None})
    for name, tensor in state.items():
        assert torch.equal(restored[name], tensor)
        assert restored[name].stride() == tensor.stride()


def test_checkpoints_keep_two_and_survive_a_write_that_fails(framework, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints", backends.load(framework))
    assert checkpoints.load({}) is None
    for step in (1, 5, 12):
        checkpoints.save(step, {"step": step, "array": np.full(1000, step)})
    assert sorted(path.name.split(".")[0] for path in (tmp_path / "checkpoints").iterdir()) == [
        "step_000000000005",
        "step_000000000012",
    ]

    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("algoperf.checkpoint._sync", no_space)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(20, {"step": 20})
    monkeypatch.undo()
    restored = checkpoints.load({})
    assert restored is not None
    assert restored["step"] == 12
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_a_file_cut_or_altered_anywhere_is_passed_over(tmp_path_factory, data):
    require(Framework.PYTORCH)
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(folder, backends.load(Framework.PYTORCH))
    checkpoints.save(1, {"step": 1})
    checkpoints.save(2, {"step": 2, "array": np.arange(50)})
    newest = max(folder.iterdir())
    content = newest.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.booleans())
    newest.write_bytes(content[:place] if cut else content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    restored = checkpoints.load({})
    assert restored is not None
    assert restored["step"] == 1


def test_no_checkpoint_that_is_whole_is_said_and_nothing_is_begun_anew(framework, tmp_path):
    checkpoints = Checkpoints(tmp_path, backends.load(framework))
    checkpoints.save(1, {"step": 1})
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StateError, match="None of the checkpoints"):
        checkpoints.load({})


def test_files_of_an_abandoned_future_do_not_displace_what_is_saved_now(framework, tmp_path):
    checkpoints = Checkpoints(tmp_path, backends.load(framework))
    for step in (5, 900):
        checkpoints.save(step, {"step": step})
    newest = max(tmp_path.iterdir())
    newest.write_bytes(b"damaged")
    restored = checkpoints.load({})
    assert restored is not None
    assert restored["step"] == 5
    checkpoints.save(6, {"step": 6})
    restored = checkpoints.load({})
    assert restored is not None
    assert restored["step"] == 6


class TwoProcesses:
    """The backend of one of two processes; `shared` holds what each of them last gathered."""

    num_processes = 2

    def __init__(self, backend, rank, answers):
        self.backend, self.rank, self.answers = backend, rank, answers

    def gather(self, values):
        return values + self.answers.pop(0)

    def __getattr__(self, name):
        return getattr(self.backend, name)


def test_processes_go_on_from_a_step_that_all_of_them_have(framework, tmp_path):
    backend = backends.load(framework)
    first = Checkpoints(tmp_path, TwoProcesses(backend, 0, [[4, 5]]))
    for step in (5, 6):
        first.save(step, {"step": step})
    # Process 1 was killed before it saved step 6.
    restored = first.load({})
    assert restored is not None
    assert restored["step"] == 5
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["step_000000000005"]
    alone = Checkpoints(tmp_path, TwoProcesses(backend, 0, [[], [False]]))
    with pytest.raises(StateError, match="as many devices as before"):
        alone.load({})


def test_who_only_looks_takes_what_it_asks_for_and_removes_nothing(framework, tmp_path):
    checkpoints = Checkpoints(tmp_path, backends.load(framework))
    assert checkpoints.load_some({"array": None}) is None
    for step in (5, 9):
        checkpoints.save(step, {"step": step, "array": np.full(3, step)})
    assert checkpoints.load_some({"step": None, "none of these": None}) == {"step": 9}
    max(tmp_path.iterdir()).write_bytes(b"damaged")
    np.testing.assert_array_equal(checkpoints.load_some({"array": None})["array"], np.full(3, 5))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_model_in_ddp_is_saved_as_the_model(tmp_path):
    require(Framework.PYTORCH)
    import torch
    import torch.distributed as dist

    checkpoints = Checkpoints(tmp_path / "checkpoints", backends.load(Framework.PYTORCH))
    alone, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        checkpoints.save(1, {"params": torch.nn.parallel.DistributedDataParallel(alone)})
        checkpoints.load_some({"params": other})
        assert torch.equal(other.weight, alone.weight)
        with torch.no_grad():
            other.weight.zero_()
        checkpoints.load_some({"params": torch.nn.parallel.DistributedDataParallel(other)})
        assert torch.equal(other.weight, alone.weight)
    finally:
        dist.destroy_process_group()


def test_functions_in_a_nodes_data_are_taken_from_a_fresh_start():
    require(Framework.JAX)
    import jax

    backend = backends.load(Framework.JAX)
    partial = jax.tree_util.Partial(test_plain_values, 3)
    restored = round_trip(backend, partial, jax.tree_util.Partial(test_plain_values, 0))
    assert restored.func is test_plain_values
    assert restored.args == (3,)


def test_what_has_slots_is_restored(framework):
    backend, count = backends.load(framework), Count()
    count.add()
    assert round_trip(backend, [count], [Count()])[0].both == (1, 1)
    assert round_trip(backend, [count])[0].both == (1, 1)


def test_parameters_in_a_state_are_those_of_the_model_and_functions_see_what_is_restored():
    require(Framework.PYTORCH)
    import torch

    def make():
        torch.manual_seed(0)
        model, factor = torch.nn.Linear(3, 2), [1.0]
        stepper = Stepper(model.parameters())
        recent = collections.deque(maxlen=2)
        return {
            "params": model,
            "optimizer_state": {
                "stepper": stepper,
                "step": stepper.step,
                "parameters": tuple(model.parameters()),
                "momenta": stepper.momenta,
                "factor": factor,
                "scale": lambda: factor[0],
                "recent": recent,
                "add": lambda: recent.append(len(recent)),
            },
        }

    def train(both, steps):
        model, state = both["params"], both["optimizer_state"]
        for i in range(steps):
            for p in state["parameters"]:
                p.grad = None
            (state["scale"]() * model(torch.full((4, 3), float(i))).square().mean()).backward()
            state["step"]()
            state["factor"][0] *= 0.9
            state["momenta"][0].mul_(0.5)
            state["add"]()

    backend = backends.load(Framework.PYTORCH)
    trained = make()
    train(trained, 3)
    restored = round_trip(backend, trained, make())
    state = restored["optimizer_state"]
    assert state["parameters"][0] is state["stepper"].parameters[0] is restored["params"].weight
    assert state["stepper"].first is state["stepper"].momenta[0] is state["momenta"][0]
    train(trained, 3)
    train(restored, 3)
    assert torch.equal(trained["params"].weight, restored["params"].weight)
    assert torch.equal(trained["params"].bias, restored["params"].bias)
    assert state["stepper"].num_steps == 6
    assert state["recent"] == trained["optimizer_state"]["recent"]


def test_what_was_one_and_is_two_does_not_become_one_again():
    """A fresh start has one list twice; what replaced it in one place is not overwritten by the other's."""
    require(Framework.PYTORCH)
    one: list[int] = []
    restored = round_trip(backends.load(Framework.PYTORCH), {"a": [1], "b": [2]}, {"a": one, "b": one})
    assert restored == {"a": [1], "b": [2]}


def test_a_parameter_of_a_model_that_is_not_there_is_named():
    require(Framework.PYTORCH)
    import torch

    backend, model = backends.load(Framework.PYTORCH), torch.nn.Linear(3, 2)
    encoder = Encoder(backend)
    node = encoder.encode({"params": model, "list": [model.weight]})
    node["items"] = node["items"][1:]
    with pytest.raises(StateError, match=r"held weight of a model, and a fresh start has no model with that\.$"):
        Decoder(backend, encoder.arrays).decode(node, None)
