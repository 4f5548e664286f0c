"""A submission's requirements.txt against what is installed."""

import importlib.metadata
import shlex
from pathlib import Path

import pytest

from algoperf.spec import Framework
from algoperf_orchestrator import requirements

NUMPY = importlib.metadata.version("numpy")


@pytest.fixture
def check(sgd: Path):
    def check(text: str, framework: Framework = Framework.JAX) -> None:
        sgd.with_name("requirements.txt").write_text(text)
        requirements.check(sgd, framework)

    return check


def distribution(folder: Path, name: str, version: str, *requires: str) -> None:
    """Makes a distribution importable from a folder, as far as its metadata goes."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Provides-Extra: jax"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n\n",
        "numpy",
        f"numpy=={NUMPY}  # the one here\nNumPy >= 1\n",
        f"numpy=={NUMPY} \\\n    --hash=sha256:00\n",
        "nothing-of-this-name; python_version < '3'",
        "--extra-index-url https://example.org\n-r other.txt\nhttps://example.org/a.whl\n-e .\n./here\ngit+https://example.org/b\n",
    ],
)
def test_what_is_met_or_cannot_be_checked(check, text: str) -> None:
    check(text)


def test_what_is_no_requirement_is_said(check, capsys) -> None:
    check(f"numpy={NUMPY}\n")
    assert f"has the line 'numpy={NUMPY}', which is no requirement; it is not checked." in capsys.readouterr().err


def test_no_file_asks_for_nothing(sgd: Path) -> None:
    requirements.check(sgd, Framework.JAX)


def test_what_is_missing_is_named_with_the_command(check, sgd: Path) -> None:
    with pytest.raises(ValueError, match="asks for nothing-of-this-name>=2, of which nothing is installed") as caught:
        check("nothing-of-this-name>=2\nnumpy\npytest<1\n")
    message = str(caught.value)
    assert message.startswith(f"{sgd.with_name('requirements.txt')} asks for ")
    assert f"and pytest<1, of which {importlib.metadata.version('pytest')} is installed" in message
    command = shlex.split(message.split("`")[1])
    assert command[:3] == ["uv", "pip", "install"]
    assert command[-2:] == ["nothing-of-this-name>=2", "pytest<1"]
    folder = command[command.index("--target") + 1]
    assert folder.endswith("environments/my_submission")
    assert message.endswith(f"with PYTHONPATH={folder} before it.")
    assert "\n" not in message


def test_what_lies_in_the_python_path_is_installed(check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path / "environment", "nothing-of-this-name", "2.5")
    monkeypatch.syspath_prepend(tmp_path / "environment")
    check("nothing_of.this_name>=2")
    with pytest.raises(ValueError, match=r"of which 2\.5 is installed"):
        check("nothing-of-this-name==3")


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("nothing-of-this-name==1.4", "nothing-of-this-name<3,>=2"),
        ("nothing-of-this-name>=3", "nothing-of-this-name<3,>=2"),
        ("other==1", "other>=2"),
    ],
)
def test_what_conflicts_with_the_benchmark_is_refused(
    check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, own: str
) -> None:
    requires = ("nothing-of-this-name>=2,<3", 'other>=2; extra == "jax"')
    distribution(tmp_path / "environment", "algoperf-another", "1.0", *requires)
    monkeypatch.syspath_prepend(tmp_path / "environment")
    with pytest.raises(ValueError, match=r"ask for a version that both allow\.$") as caught:
        check(text)
    assert f"asks for {text}, but algoperf-another of the benchmark needs {own};" in str(caught.value)
    if own.startswith("other"):
        # What another framework's part needs is nothing that conflicts.
        with pytest.raises(ValueError, match="of which nothing is installed"):
            check(text, Framework.PYTORCH)


def test_the_benchmarks_own_requirements_are_found(check) -> None:
    with pytest.raises(ValueError, match="algoperf-core of the benchmark needs jax"):
        check("jax==0.4.30")
