"""The benchmarks still find what they import; what they measure is nothing for a test."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_can_be_loaded(path: Path) -> None:
    assert callable(runpy.run_path(str(path), run_name="loaded")["main"])
