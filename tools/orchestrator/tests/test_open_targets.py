"""What is said of workloads whose target nobody has set yet, and of those without a test split."""

import io
import json
from contextlib import redirect_stdout

import pytest

from algoperf import registry
from algoperf.spec import Framework, Scale
from algoperf_orchestrator import listing
from algoperf_orchestrator.plan import make_plan
from algoperf_orchestrator.progress import Progress
from algoperf_orchestrator.scoring_rules import workload_rules
from algoperf_orchestrator.suite import Suite

OPEN = "finewebedu_lm_silu"


def started(name: str) -> str:
    """The first line of a run."""
    with redirect_stdout(io.StringIO()) as out:
        progress = Progress("title", registry.workload_spec(name).target, 10.0, live=False)
        progress.show("started", {"restarts": 0, "batch_size": 4, "step": 0})
    return out.getvalue()


def test_a_run_says_what_there_is_to_reach() -> None:
    assert "no target yet (ppl)" in started(OPEN)
    assert "target ppl ≤ 22.2995 (validation)\n" in started("finewebedu_lm")
    assert "(validation), " in started("wmt")
    assert started("wmt").endswith("(test)\n")


def test_lists_say_so() -> None:
    rows = {row["name"]: row for row in listing.workloads()}
    assert rows[OPEN]["targets"]["full"]["validation"] is None
    assert json.loads(json.dumps(rows[OPEN]))["targets"]["full"]["test"] is None
    with redirect_stdout(io.StringIO()) as out:
        listing.show([rows[OPEN]])
    assert "no target yet (full)" in out.getvalue()


def test_a_suite_cannot_be_scored_without_a_target() -> None:
    suite = Suite(submissions=("nadamw",), frameworks=(Framework.JAX,), rules="v1.0", workloads=(OPEN,))
    with pytest.raises(ValueError, match=f"{OPEN} has no target at full scale yet, so that it cannot be scored"):
        make_plan(suite)
    assert workload_rules(registry.workload_spec(OPEN).at(Scale.MINI), "v1.0").metric == "ppl"
