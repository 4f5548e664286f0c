"""Taking the state of a trial apart into arrays and plain data, and putting it together again.

A submission's optimizer state may be anything: nested containers, named tuples, framework-specific nodes, objects
that save themselves by `state_dict`, numbers, and functions. The arrays go into one list; everything else becomes
JSON. Nothing is pickled: types are looked up by name among those that the running process has loaded already, and
what no file should define (functions, modules) is taken from a fresh start, the `template`.

What is what remains so: parameters that a PyTorch state refers to are those of the model, an object in two places is
one object, and objects are restored into those of the fresh start, whose functions may refer to them.
"""

from __future__ import annotations

import enum
import sys
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from algoperf.backends import Backend
from algoperf.spec import Framework

Node = Any  # JSON: a number, string, boolean or None as itself, everything else as an object with one "is".


class StateError(Exception):
    """State that cannot be saved or restored; the message names the place."""


_SEQUENCES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque
}  # fmt: skip
# What can be changed in place, so that it matters where else it is.
_MUTABLE = {"tensor", "numpy", "dict", "list", "set", "deque", "object"}


class Encoder:
    """Encodes one tree; `arrays` are those that its nodes refer to."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.arrays: list[np.ndarray] = []
        # By identity; each with the value, which must live as long as its identity counts.
        self._seen: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._num_shared = 0
        self._num_modules = 0

    def encode(self, value: Any) -> Node:
        """The node for a value."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if id(value) in self._seen:
            return self._reference(self._seen[id(value)][1])
        for attempt in (self._array, self._container, self._framework_node, self._object):
            node = attempt(value)
            if node is not None:
                # In JAX arrays do not change, so that nothing depends on which is which.
                if self._backend.framework is Framework.PYTORCH and node["is"] in _MUTABLE:
                    self._seen[id(value)] = (value, node)
                return node
        return {"is": "fresh", "type": _type_name(type(value))}

    def _reference(self, node: dict[str, Any]) -> Node:
        """Another node for what has one, which is the node itself for a parameter of a model."""
        if node["is"] == "parameter":
            return node
        if "shared" not in node:
            node["shared"] = self._num_shared
            self._num_shared += 1
        return {"is": "same", "as": node["shared"]}

    def _array(self, value: Any) -> Node | None:
        dumped = self._backend.dump_leaf(value)
        if dumped is not None:
            return self._store("tensor", dumped[0]) | {"note": self.encode(dumped[1])}
        if isinstance(value, np.ndarray) and value.dtype != object:
            return self._store("numpy", value)
        return self._store("scalar", np.asarray(value)) if isinstance(value, np.generic) else None

    def _store(self, kind: str, array: np.ndarray) -> dict[str, Any]:
        self.arrays.append(array)
        return {"is": kind, "array": len(self.arrays) - 1}

    def _container(self, value: Any) -> Node | None:
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections", "types"):
            items = [[self.encode(key), self.encode(item)] for key, item in value.items()]
            return {"is": "dict", "type": _type_name(type(value)), "items": items}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {"is": "namedtuple", "type": _type_name(type(value)), "items": self._all(value)}
        if type(value).__name__ in _SEQUENCES and type(value).__module__ in ("builtins", "collections"):
            return {"is": type(value).__name__, "items": self._all(value)}
        return None

    def _framework_node(self, value: Any) -> Node | None:
        taken_apart = self._backend.dump_node(value)
        if taken_apart is None:
            return None
        children, data = taken_apart
        return {
            "is": "node",
            "type": _type_name(type(value)),
            "items": self._all(children),
            "data": self.encode(data),
        }

    def _object(self, value: Any) -> Node | None:
        if callable(getattr(value, "load_state_dict", None)):
            return self._state_dict(self._backend.unwrapped(value))
        if isinstance(value, enum.Enum):
            return {"is": "enum", "type": _type_name(type(value)), "name": value.name}
        if isinstance(value, np.random.Generator):
            return {"is": "generator", "state": self.encode(value.bit_generator.state)}
        # A class with a `__reduce__` of its own keeps more than its attributes.
        keeps_more: Any = type(value).__reduce__
        plain = not callable(value) and keeps_more is object.__reduce__
        if not plain or type(value).__module__ in ("builtins", "types"):
            return None
        attributes, slots = getattr(value, "__dict__", None), _slots(value)
        if attributes is None and not slots:
            return None
        node = {"is": "object", "type": _type_name(type(value)), "state": self.encode(attributes or {})}
        return node | {"slots": self.encode(slots)} if slots else node

    def _state_dict(self, inner: Any) -> Node:
        node = {"is": "state_dict", "state": self.encode(dict(inner.state_dict()))}
        tensors = _tensors_of_module(inner)
        if tensors:
            node["module"] = self._num_modules
            for name, tensor in tensors.items():
                reference = {"is": "parameter", "module": self._num_modules, "name": name}
                self._seen.setdefault(id(tensor), (tensor, reference))
            self._num_modules += 1
        return node

    def _all(self, values: Any) -> list[Node]:
        return [self.encode(value) for value in values]


class Decoder:
    """Decodes one tree, given the arrays that its nodes refer to."""

    def __init__(self, backend: Backend, arrays: Sequence[np.ndarray]) -> None:
        self._backend = backend
        self._arrays = arrays
        self._modules: dict[int, dict[str, Any]] = {}
        self._shared: dict[int, Any] = {}
        # By identity: what of the fresh start has been restored.
        self._restored: dict[int, Any] = {}

    def decode(self, node: Node, template: Any, place: str = "state") -> Any:
        """The value of a node; `template` is what a fresh start has in the same place, or None."""
        if not isinstance(node, dict):
            return node
        kind = node["is"]
        decode: Callable[[Any, Any, str], Any] = self._sequence if kind in _SEQUENCES else getattr(self, f"_{kind}")
        value = decode(node, template, place)
        if "shared" in node:
            self._shared[node["shared"]] = value
        return value

    def _same(self, node: Any, template: Any, place: str) -> Any:
        return self._shared[node["as"]]

    def _parameter(self, node: Any, template: Any, place: str) -> Any:
        found = self._modules.get(node["module"], {}).get(node["name"])
        if found is None:
            raise StateError(f"{place} held {node['name']} of a model, and a fresh start has no model with that.")
        return found

    def _is_to_restore(self, template: Any, cls: type) -> bool:
        """Whether a value belongs into what a fresh start has in its place, which is so once for each object."""
        if type(template) is not cls or id(template) in self._restored:
            return False
        self._restored[id(template)] = template
        return True

    def _sequence(self, node: Any, template: Any, place: str) -> Any:
        items = self._items(node["items"], template, place)
        cls: Any = _SEQUENCES[node["is"]]
        if cls in (list, deque, set) and self._is_to_restore(template, cls):
            template.clear()
            template.update(items) if cls is set else template.extend(items)
            return template
        return cls(items)

    def _tensor(self, node: Any, template: Any, place: str) -> Any:
        note = self.decode(node["note"], None, place)
        return self._backend.load_leaf(self._arrays[node["array"]], note, template)

    def _numpy(self, node: Any, template: Any, place: str) -> Any:
        return self._arrays[node["array"]].copy()

    def _scalar(self, node: Any, template: Any, place: str) -> Any:
        return self._arrays[node["array"]][()]

    def _dict(self, node: Any, template: Any, place: str) -> Any:
        fresh = template if isinstance(template, Mapping) else {}
        items: dict[Any, Any] = {}
        for key_node, item in node["items"]:
            key = self.decode(key_node, None, place)
            items[key] = self.decode(item, fresh.get(key), f"{place}[{key!r}]")
        cls = _find_type(node["type"], template, place)
        if isinstance(template, MutableMapping) and self._is_to_restore(template, cls):
            template.clear()
            template.update(items)
            return template
        if cls.__name__ == "defaultdict":
            return cls(getattr(template, "default_factory", None), items)
        return cls(items)

    def _namedtuple(self, node: Any, template: Any, place: str) -> Any:
        cls = _find_type(node["type"], template, place)
        return cls(*self._items(node["items"], template, place))

    def _node(self, node: Any, template: Any, place: str) -> Any:
        cls = _find_type(node["type"], template, place)
        fresh, data = (self._backend.dump_node(template) if type(template) is cls else None) or (None, None)
        children = self._items(node["items"], fresh, place)
        return self._backend.load_node(cls, children, self.decode(node["data"], data, place))

    def _state_dict(self, node: Any, template: Any, place: str) -> Any:
        if not hasattr(template, "load_state_dict"):
            raise StateError(f"{place} was saved by its state_dict, and a fresh start has nothing to load it into.")
        inner = self._backend.unwrapped(template)
        state = self.decode(node["state"], inner.state_dict(), place)
        try:
            inner.load_state_dict(state)
        # What PyTorch says of other names and shapes, which tells all of them.
        except RuntimeError as error:
            raise StateError(f"{place} does not fit what a fresh start has: {error}") from error
        if "module" in node:
            self._modules[node["module"]] = _tensors_of_module(inner)
        return template

    def _enum(self, node: Any, template: Any, place: str) -> Any:
        members: Any = _find_type(node["type"], template, place)
        return members[node["name"]]

    def _generator(self, node: Any, template: Any, place: str) -> Any:
        state = self.decode(node["state"], None, place)
        generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
        generator.bit_generator.state = state
        return generator

    def _object(self, node: Any, template: Any, place: str) -> Any:
        cls = _find_type(node["type"], template, place)
        is_fresh = type(template) is cls
        attributes = self.decode(node["state"], getattr(template, "__dict__", None) if is_fresh else None, place)
        slots = node.get("slots") and self.decode(node["slots"], _slots(template) if is_fresh else None, place)
        value: Any = template if self._is_to_restore(template, cls) else object.__new__(cls)
        # Not its own setattr: the object may be a frozen dataclass.
        if attributes:
            value.__dict__.update(attributes)
        for name, slot in (slots or {}).items():
            object.__setattr__(value, name, slot)
        return value

    def _fresh(self, node: Any, template: Any, place: str) -> Any:
        if _type_name(type(template)) != node["type"]:
            raise StateError(
                f"{place} held a {node['type']}, which a checkpoint cannot hold, and a fresh start has none."
            )
        return template

    def _items(self, nodes: Sequence[Node], template: Any, place: str) -> list[Any]:
        fresh = list(template) if isinstance(template, (Sequence, deque)) and not isinstance(template, str) else []
        fresh += [None] * (len(nodes) - len(fresh))
        return [self.decode(node, fresh[i], f"{place}[{i}]") for i, node in enumerate(nodes)]


def _slots(value: Any) -> dict[str, Any]:
    """The attributes that are kept outside `__dict__`."""
    state = object.__getstate__(value)
    return dict(state[1]) if isinstance(state, tuple) else {}


def _tensors_of_module(value: Any) -> dict[str, Any]:
    """Parameters and buffers by name, if it is a model: a state may refer to them."""
    if not callable(getattr(value, "named_parameters", None)):
        return {}
    return {**dict(value.named_parameters()), **dict(value.named_buffers())}


def _type_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _find_type(name: str, template: Any, place: str) -> type:
    """A type that this process has loaded, by name. Nothing is imported."""
    if _type_name(type(template)) == name:
        return type(template)
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise StateError(f"{place} held a {name}, which is not loaded here.")
    return found
