"""Threads of data pipelines."""

import pytest

from algoperf.data import Shards, processors
from algoperf.data.processors import PipelineThreads


@pytest.mark.parametrize(
    ("shards", "expected"),
    [(Shards(), 12), (Shards(4, range(4)), 12), (Shards(4, range(1, 2)), 3), (Shards(5, range(2)), 4)],
)
def test_processes_on_one_machine_share_its_processors(monkeypatch, shards, expected):
    monkeypatch.setattr(processors, "num_processors", lambda: 12)
    assert PipelineThreads("some").pool(shards)._max_workers == expected


def test_there_is_a_thread_at_least(monkeypatch):
    monkeypatch.setattr(processors, "num_processors", lambda: 2)
    assert PipelineThreads("some").pool(Shards(8, range(1)))._max_workers == 1


def test_their_number_may_be_given():
    assert PipelineThreads("some", 7).pool(Shards(2, range(1)))._max_workers == 7


def test_they_are_the_same_at_each_call():
    threads = PipelineThreads("some")
    assert threads.pool(Shards()) is threads.pool(Shards())
    assert threads.pool(Shards()).submit(lambda: 3).result() == 3
