"""What tests of the ledger and of the scheduler share; processes that they spawn can import it too."""

from __future__ import annotations

from multiprocessing import SimpleQueue
from pathlib import Path

from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.planned import PlannedTrial
from algoperf_orchestrator.verdict import State, Verdict

DONE = Verdict(state=State.DONE, reason="reached")


def planned(number: int) -> list[PlannedTrial]:
    """Trials of a suite: one of each study."""
    return [
        PlannedTrial(
            label="mine",
            config=TrialConfig(
                workload="toy",
                scale=Scale.MINI,
                framework=Framework.JAX,
                submission="mine",
                ruleset=TuningRuleset.SELF,
                seed=study,
                study=study,
                max_runtime_s=20.0,
            ),
        )
        for study in range(number)
    ]


def claim_all(experiment: Path, number: int, results: SimpleQueue[list[int]]) -> None:
    """Claims and ends trials until none is left, and says which."""
    with Ledger(experiment) as ledger:
        ledger.restrict(planned(number))
        owner, mine = ledger.register("local"), []
        while (row := ledger.next_planned()) is not None:
            if (attempt := ledger.claim(row, owner)) is not None:
                mine.append(row.id)
                ledger.end(row.id, attempt, DONE)
        results.put(mine)
