"""A finished trial in a few lines."""

from collections.abc import Iterator, Mapping

from algoperf import registry, submission
from algoperf.records import TrialRecord
from algoperf.spec import Split, Target
from algoperf.trial_config import EndReason, TrialConfig
from algoperf_orchestrator.errors import FAILED, INFRASTRUCTURE

# A result of the algorithm is a success of the command, unless the submission failed.
EXIT_CODES: Mapping[EndReason, int] = dict.fromkeys(EndReason, 0) | {
    EndReason.ERROR: FAILED,
    EndReason.OOM: FAILED,
    EndReason.INFRASTRUCTURE: INFRASTRUCTURE,
}
_SENTENCES: Mapping[EndReason, str] = {
    EndReason.REACHED: "both targets were reached",
    EndReason.BUDGET: "the budget was used up",
    EndReason.STEPS: "the step limit was hit",
    EndReason.COMPLETE: "the submission said that its training is complete",
    EndReason.DIVERGED: "training diverged: a loss and a parameter are no longer finite numbers",
    EndReason.ERROR: "the submission failed",
    EndReason.OOM: "a device had no memory left; try a smaller batch size or a larger device",
    EndReason.INFRASTRUCTURE: "disk or data failed; run the same command again to continue",
}
_TRACEBACK_LINES = 8


def time_to_target(record: TrialRecord, target: Target) -> float | None:
    """Submission time, in seconds, when the validation target was first reached, if it was."""
    reached = (row for row in record.evaluations if target.reached(Split.VALIDATION, row))
    row = next(reached, None)
    return None if row is None else float(row["accumulated_submission_time"])


def lines(record: TrialRecord, config: TrialConfig) -> Iterator[str]:
    """How a trial ended, and where to look further."""
    outcome = record.outcome
    reason = EndReason(outcome["end_reason"])
    error = outcome.get("error")
    if error is not None:
        if reason is EndReason.ERROR:
            yield from (f"  {line}" for line in error["traceback"].rstrip().splitlines()[-_TRACEBACK_LINES:])
            yield f"Submission: {submission.locate(config.submission, config.framework)}"
        else:
            yield f"  {error['type']}: {error['message']}"
    target = registry.workload_spec(config.workload).at(config.scale).target
    seconds = time_to_target(record, target)
    used = outcome["seconds"]["submission"]
    after = f"after {outcome['global_step']} steps and {used:.1f} s"
    yield f"Ended ({reason}), {after}: {_SENTENCES[reason]}."
    if seconds is not None:
        yield f"Time to the validation target: {seconds:.1f} s"
    yield f"Logs: {record.folder}"
