"""Former names of modules, by which archived submissions import them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# The benchmark's package was renamed after v0.5.
_RENAMED = {"algorithmic_efficiency": "algoperf"}
# The submissions of its first competition lay elsewhere, and may still do.
_MOVED = {"submissions.submissions_algorithms_v0_5.AlgoPerf_Team_21": "submissions"}


class _SameModule(Loader):
    """Gives the module of another name, so that there is one of each, however it was imported."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just given it that of the alias.
        module.__spec__ = self._spec


class AliasFinder(MetaPathFinder):
    """Finds modules by their former names, and what contained them as empty packages.

    Args:
        aliases: present names by former ones.
    """

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self._aliases = aliases

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The import system's hook; None for names that were none."""
        for alias, name in self._aliases.items():
            if fullname == alias or fullname.startswith(f"{alias}."):
                present = name + fullname.removeprefix(alias)
                found = importlib.util.find_spec(present)
                is_package = found is not None and found.submodule_search_locations is not None
                return found and ModuleSpec(fullname, _SameModule(present), is_package=is_package)
            if "." in fullname and alias.startswith(f"{fullname}."):
                return ModuleSpec(fullname, None, is_package=True)
        return None


def install() -> None:
    """Makes the former names importable in this process; once, however often it is called."""
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        # First: an installation of the benchmark's former package would bring classes of its own.
        sys.meta_path.insert(0, AliasFinder(_RENAMED))
        # Last: what lies where it lay is found there.
        sys.meta_path.append(AliasFinder(_MOVED))
