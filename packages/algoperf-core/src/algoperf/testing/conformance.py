"""The conformance kit: what every workload and every submission has to satisfy, as base classes for pytest.

A package subclasses them and says only what they are about:

    class TestJax(WorkloadTests):
        workload_name, framework = "mywork", Framework.JAX

Each test's docstring says what it means when it fails. A package may add tests; it replaces one of the kit's
only under `pytest.mark.xfail(reason=…)`. The tests run at mini scale on data that the package's own fixture
`data_dir` prepares (session-scoped; it returns None for data that is generated).
"""

import pytest

# So that a failed assertion says which values it compared; it has to be said before they are imported.
pytest.register_assert_rewrite(
    *(f"algoperf.testing.{name}_tests" for name in ("data", "parity", "spec", "submission", "workload"))
)

from algoperf.testing.data_tests import DataTests  # noqa: E402
from algoperf.testing.parity_tests import ParityTests  # noqa: E402
from algoperf.testing.spec_tests import SpecTests  # noqa: E402
from algoperf.testing.submission_tests import SubmissionTests  # noqa: E402
from algoperf.testing.workload_tests import WorkloadTests  # noqa: E402

__all__ = ["DataTests", "ParityTests", "SpecTests", "SubmissionTests", "WorkloadTests"]
