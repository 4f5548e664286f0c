"""What every submission has to satisfy: a short trial on the toy workload."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from algoperf import registry, study, submission
from algoperf.search import SearchSpace
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require
from algoperf.testing.standard import StandardTests
from algoperf.trial import EndReason, Trial

VARIABLE = "ALGOPERF_SUBMISSIONS"


class SubmissionTests(StandardTests):
    """Submissions in one framework. Needs no data.

    The environment variable `ALGOPERF_SUBMISSIONS` names more of them: paths, separated as in `PATH`; those whose
    file imports the other framework are left out.

    Attributes:
        framework: in which framework.
        submissions: installed names, or paths of files or their folders.
    """

    framework: Framework
    submissions: ClassVar[Sequence[str]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each submission. Raises pytest.UsageError if there is none: it would have tested nothing."""
        if "path" not in metafunc.fixturenames:
            return
        named = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
        paths = [*self.submissions, *(path for path in named if submission.is_written_for(Path(path), self.framework))]
        if not paths:
            raise pytest.UsageError(f"{type(self).__name__} has no submissions; name some in {VARIABLE}.")
        metafunc.parametrize("path", paths, ids=["-".join(Path(path).parts[-2:]) for path in paths])

    def test_takes_two_steps_and_is_evaluated(self, path: str, tmp_path: Path) -> None:
        """The submission fails in its first steps; the message and the traceback say where."""
        require(self.framework)
        outcome = _trial(path, self.framework, tmp_path).run()
        assert outcome is not None
        assert outcome.end_reason is EndReason.STEPS, (outcome.error or {}).get("traceback")
        assert [row["global_step"] for row in outcome.evaluations] == [1, 2]


def _trial(name_or_path: str, framework: Framework, folder: Path) -> Trial:
    path = submission.locate(name_or_path, framework)
    spec = registry.workload_spec("toy").at(Scale.MINI)
    space = path.parent / "tuning_search_space.json"
    point, ruleset = None, study.SELF_TUNING
    if space.exists():
        ruleset = study.EXTERNAL_TUNING
        point = study.study_points(ruleset, SearchSpace.load(space), 0, spec.name, 0)[0]
    config = study.trial_config(
        spec,
        framework=framework,
        submission=str(path),
        ruleset=ruleset,
        hyperparameters=point,
        clock="virtual",
        max_steps=2,
    )
    return Trial(config, registry.make_workload(spec, framework), submission.load(path), folder)
