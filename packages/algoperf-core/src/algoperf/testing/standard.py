"""The guard of the kit: what a subclass may not do to it."""

from typing import Any


class StandardTests:
    """Base of the kit's classes. A subclass may add tests, and may not quietly replace the kit's.

    Raises:
        TypeError: a subclass redefines a test without `pytest.mark.xfail(reason=…)`.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name, test in vars(cls).items():
            is_standard = name.startswith("test_") and any(name in vars(base) for base in cls.__mro__[1:])
            if is_standard and not _is_expected_to_fail(test):
                raise TypeError(
                    f"{cls.__name__}.{name} replaces a test of the conformance kit; "
                    "give it another name, or mark it with pytest.mark.xfail(reason=...)."
                )


def _is_expected_to_fail(test: Any) -> bool:
    marks = getattr(test, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
