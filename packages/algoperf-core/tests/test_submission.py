"""Finding, loading and checking submissions."""

import importlib
import sys
from dataclasses import replace

import pytest

import algoperf
from algoperf import registry, spec, submission
from algoperf.spec import Framework, Scale, SubmissionSpec
from algoperf.submission import SubmissionError
from algoperf.testing.frameworks import require
from algoperf.testing.toy import TOY

WHOLE = """
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    return None

def update_params(workload, current_param_container, current_params_types, model_state, hyperparameters, batch,
                  loss_type, optimizer_state, eval_results, global_step, rng):
    return None

def data_selection(workload, input_queue, optimizer_state, current_param_container, model_state, hyperparameters,
                   global_step, rng):
    return next(input_queue)

def get_batch_size(workload_name):
    return 32
"""


@pytest.fixture(autouse=True)
def imports(monkeypatch):
    """What a submission does to `sys.path` and `sys.modules` is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """Writes files below a folder and returns the last one's path; what comes after the path is its code."""

    def write(*files):
        for name, code in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
        return path.resolve()

    return write


# Where it is.


def test_another_frameworks_submission_is_told_apart(write):
    path = write(("mine/submission.py", f"import torch.optim\n{WHOLE}"))
    submission.check_framework(path, Framework.PYTORCH)
    with pytest.raises(ValueError, match=r"written for pytorch, not for jax; run it with --framework pytorch\.$"):
        submission.check_framework(path, Framework.JAX)
    submission.check_framework(write(("mine/submission.py", WHOLE)), Framework.JAX)
    with pytest.raises(ValueError, match="is no Python"):
        submission.check_framework(write(("mine/submission.py", "def f(:")), Framework.JAX)


def test_a_path_is_a_file_or_its_folder(write):
    path = write(("mine/submission.py", WHOLE))
    assert submission.locate(str(path), Framework.JAX) == path
    assert submission.locate(str(path.parent), Framework.JAX) == path


def test_a_relative_path_is_made_absolute(write, monkeypatch):
    path = write(("mine/submission.py", WHOLE))
    monkeypatch.chdir(path.parent.parent)
    assert submission.locate("mine", Framework.JAX) == path
    assert submission.locate("mine/submission.py", Framework.JAX) == path


@pytest.mark.parametrize("name", ["nowhere.py", "folder"])
def test_a_missing_file_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=f"There is no submission file .*{name}"):
        submission.locate(str(tmp_path / name), Framework.JAX)


def test_a_name_leads_to_the_file_of_its_framework(write, monkeypatch):
    path = write(
        ("installed_sgd/__init__.py", ""), ("installed_sgd/parts.py", "SIZE = 7"), ("installed_sgd/jax.py", WHOLE)
    )
    sys.path.insert(0, str(path.parent.parent))
    sgd = SubmissionSpec(name="sgd", summary="", package="installed_sgd", frameworks=(Framework.JAX,))
    monkeypatch.setattr(registry, "submission_spec", {"sgd": sgd}.__getitem__)
    assert submission.locate("sgd", Framework.JAX) == path
    assert submission.load(path).get_batch_size("toy") == 32
    with pytest.raises(ValueError, match="sgd is not written for pytorch"):
        submission.locate("sgd", Framework.PYTORCH)


# What it may import.


@pytest.mark.parametrize("marker", ["submissions", "algorithms"])
def test_public_submissions_import_their_parts_from_the_root(write, marker):
    path = write(
        (f"checkout/{marker}/team/parts.py", "SIZE = 7"),
        (f"checkout/{marker}/team/submission.py", f"from {marker}.team.parts import SIZE\n{WHOLE}"),
    )
    assert submission.load(path).update_params.__globals__["SIZE"] == 7


def test_parts_beside_the_file_are_found(write):
    path = write(("mine/my_own_parts.py", "SIZE = 8"), ("mine/submission.py", f"import my_own_parts\n{WHOLE}"))
    assert submission.load(path).update_params.__globals__["my_own_parts"].SIZE == 8


@pytest.mark.parametrize("folder", ["mine", "submissions/external_tuning/mine"])
def test_a_package_imports_its_parts_in_every_way(write, folder):
    """Relatively, and by the names that they have from its own folder, which beside a jax.py is none to import from."""
    path = write(
        (f"{folder}/__init__.py", ""),
        (f"{folder}/parts.py", "SIZE = 9"),
        (f"{folder}/my_optimizers/steps/step.py", "SIZE = 10"),
        (
            f"{folder}/submission.py",
            f"from .parts import SIZE\nfrom my_optimizers.steps.step import SIZE as B\n{WHOLE}",
        ),
    )
    functions = submission.load(path).update_params.__globals__
    assert (functions["SIZE"], functions["B"]) == (9, 10)
    assert sys.path[-1] == str(path.parent)


def test_a_package_with_a_jax_py_stands_in_for_nothing(write):
    path = write(("mine/__init__.py", ""), ("mine/jax.py", WHOLE))
    submission.load(path)
    assert str(path.parent) not in sys.path


# Former names.


def test_the_benchmarks_former_name_is_the_same_module(write):
    path = write(
        ("mine/submission.py", f"import algorithmic_efficiency.spec\nfrom algorithmic_efficiency import spec\n{WHOLE}")
    )
    functions = submission.load(path).update_params.__globals__
    assert functions["spec"] is spec
    assert functions["algorithmic_efficiency"].spec is spec
    assert spec.__spec__.name == spec.__name__ == "algoperf.spec"
    assert algoperf.__spec__.name == "algoperf"
    with pytest.raises(ModuleNotFoundError, match=r"algorithmic_efficiency\.nothing"):
        importlib.import_module("algorithmic_efficiency.nothing")


@pytest.fixture(scope="module")
def pytorch_utils():
    """Imported before `imports` looks at what is there: PyTorch can be imported once only."""
    require(Framework.PYTORCH)
    return importlib.import_module("algoperf.pytorch_utils")


def test_the_setup_of_pytorch_has_its_former_name_too(pytorch_utils, write):
    code = "from algorithmic_efficiency.pytorch_utils import pytorch_setup"
    functions = submission.load(write(("mine/submission.py", f"{code}\n{WHOLE}"))).update_params.__globals__
    assert functions["pytorch_setup"] is pytorch_utils.pytorch_setup


FORMER = "submissions.submissions_algorithms_v0_5.AlgoPerf_Team_21.external_tuning.shampoo"


@pytest.mark.parametrize("folder", ["submissions/external_tuning/shampoo", FORMER.replace(".", "/")])
def test_moved_submissions_find_their_parts(write, folder):
    """Those that lie where they lay do too."""
    path = write(
        (f"{folder}/steps/step.py", "SIZE = 11"),
        (f"{folder}/submission.py", f"from {FORMER}.steps.step import SIZE\n{WHOLE}"),
    )
    loaded = submission.load(path)
    assert loaded.update_params.__globals__["SIZE"] == 11
    assert loaded.files == ("steps/step.py", "submission.py")


def test_an_unknown_adapter_is_refused(write):
    with pytest.raises(SubmissionError, match="asks for the adapter 'xmap'; there is pmap"):
        submission.load(write(("mine/submission.py", WHOLE)), "xmap")


def test_a_package_may_import_relatively(write):
    path = write(
        ("outer/__init__.py", ""),
        ("outer/shared.py", "SIZE = 9"),
        ("outer/inner/__init__.py", ""),
        ("outer/inner/parts.py", "from ..shared import SIZE"),
        ("outer/inner/submission.py", f"from .parts import SIZE\nfrom outer.shared import SIZE as SAME\n{WHOLE}"),
    )
    functions = submission.load(path).update_params.__globals__
    assert functions["SIZE"] == functions["SAME"] == 9


@pytest.mark.parametrize("folder", ["mine", "submissions/team"])
def test_a_file_named_like_a_library_hides_nothing(write, monkeypatch, folder):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    path = write(
        (f"{folder}/colorsys.py", "raise RuntimeError"),
        (f"{folder}/submission.py", f"import colorsys\n{WHOLE}"),
    )
    submission.load(path)


def test_files_of_one_name_do_not_collide(write):
    paths = [write((f"{name}/submission.py", f"NAME = {name!r}\n{WHOLE}")) for name in ("one", "two")]
    loaded = [submission.load(path) for path in paths]
    assert [one.update_params.__globals__["NAME"] for one in loaded] == ["one", "two"]


def test_one_module_name_for_two_files_is_refused(write):
    first, second = (write((f"{name}/submissions/team/submission.py", WHOLE)) for name in ("one", "two"))
    submission.load(first)
    with pytest.raises(SubmissionError) as caught:
        submission.load(second)
    message = str(caught.value)
    assert str(first) in message
    assert str(second) in message


def test_it_is_loaded_once(write, tmp_path):
    count = tmp_path / "count"
    path = write(("mine/submission.py", f"open({str(count)!r}, 'a').write('x')\n{WHOLE}"))
    first, second = submission.load(path), submission.load(path)
    assert count.read_text() == "x"
    assert first == second


def test_the_hash_is_that_of_the_code_that_ran(write):
    def content_hash(parts, unused):
        path = write(
            ("mine/my_own_parts.py", parts),
            ("mine/unused.py", unused),
            ("mine/submission.py", f"import my_own_parts\n{WHOLE}"),
        )
        sys.modules.pop("my_own_parts", None)
        sys.modules.pop(submission.load(path).update_params.__module__)
        return submission.load(path).content_hash

    first = content_hash("SIZE = 1", "")
    assert len(first) == 64
    assert content_hash("SIZE = 1", "another") == first
    assert content_hash("SIZE = 2", "") != first


# What it must have.


def test_what_is_optional_may_be_missing(write):
    loaded = submission.load(write(("mine/submission.py", WHOLE)))
    assert loaded.prepare_for_eval is None
    assert not loaded.wants_train_state


@pytest.mark.parametrize("more", ["train_state", "train_state=None", "**more"])
def test_the_train_state_is_given_to_whom_takes_it(write, more):
    code = WHOLE.replace("eval_results, global_step, rng", f"eval_results, global_step, rng, {more}")
    assert submission.load(write(("mine/submission.py", code))).wants_train_state


def test_preparing_for_evaluation_is_found(write):
    path = write(("mine/submission.py", f"{WHOLE}\ndef prepare_for_eval(**arguments):\n    return arguments\n"))
    assert submission.load(path).prepare_for_eval is not None


BROKEN = {
    "no function": (WHOLE.replace("def data_selection", "def data_section"), "has no function data_selection"),
    "no callable": (f"{WHOLE}\nget_batch_size = 32", "has no function get_batch_size"),
    "no text": ("", "has no function init_optimizer_state"),
    "fewer parameters": (WHOLE.replace("model_state, hyperparameters, rng", "model_state"), "init_optimizer_state of"),
    "more parameters": (WHOLE.replace("(workload_name)", "(workload_name, framework)"), "'framework'"),
    "another name": (WHOLE.replace("optimizer_state, eval_results", "state, eval_results"), "update_params of"),
    "preparing": (f"{WHOLE}\ndef prepare_for_eval(workload):\n    pass", "prepare_for_eval of"),
    "no module": (f"import no_such_module\n{WHOLE}", "ModuleNotFoundError: No module named 'no_such_module'"),
    "no syntax": (f"{WHOLE}\ndef f(:", "SyntaxError"),
    "an exception": (f"{WHOLE}\n1 / 0", "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_submission_is_refused_in_one_sentence(write, kind):
    code, message = BROKEN[kind]
    path = write(("mine/submission.py", code))
    with pytest.raises(SubmissionError) as caught:
        submission.load(path)
    text = str(caught.value)
    assert message in text
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")


def test_after_a_failure_a_mended_file_is_loaded(write):
    path = write(("mine/submission.py", f"1 / 0\n{WHOLE}"))
    with pytest.raises(SubmissionError):
        submission.load(path)
    path.write_text(WHOLE)
    submission.load(path)


# The batch size.


def with_sizes(write, code):
    loaded = submission.load(write(("mine/submission.py", f"{WHOLE}\ndef get_batch_size(workload_name):\n    {code}")))
    return lambda spec, num_devices=1: loaded.batch_size(spec, num_devices)


def test_at_mini_scale_the_batch_size_is_the_specs(write):
    assert with_sizes(write, "raise AssertionError")(TOY.at(Scale.MINI)) == 32


@pytest.mark.parametrize(
    "code",
    [
        "return {'toy': 96}[workload_name]",
        "if workload_name != 'toy':\n        raise ValueError(workload_name)\n    return 96",
    ],
)
def test_a_variant_has_its_bases_batch_size(write, code):
    batch_size = with_sizes(write, code)
    assert batch_size(TOY) == 96
    assert batch_size(replace(TOY, name="toy_gelu", base="toy")) == 96


def test_a_variant_may_have_a_batch_size_of_its_own(write):
    batch_size = with_sizes(write, "return {'toy': 96, 'toy_gelu': 48}[workload_name]")
    assert batch_size(replace(TOY, name="toy_gelu", base="toy")) == 48


def test_an_unknown_workload_is_named(write):
    with pytest.raises(
        SubmissionError, match=r"get_batch_size of .* knows no toy \(KeyError: 'toy'\); add a batch size"
    ):
        with_sizes(write, "return {'other': 96}[workload_name]")(TOY)


def test_devices_share_a_batch_equally(write):
    batch_size = with_sizes(write, "return 30")
    assert batch_size(TOY, 3) == 30
    with pytest.raises(
        SubmissionError, match="returned 30 for toy, which 4 devices cannot share equally; return a mul"
    ):
        batch_size(TOY, 4)


@pytest.mark.parametrize("size", ["0", "-1", "None", "32.0", "'32'"])
def test_a_batch_size_is_a_positive_integer(write, size):
    with pytest.raises(SubmissionError, match=r"get_batch_size of .*submission\.py returned .* for toy"):
        with_sizes(write, f"return {size}")(TOY)


def test_a_batch_size_may_be_an_integer_of_numpy(write):
    size = with_sizes(write, "import numpy; return numpy.int64(32)")(TOY, 4)
    assert (size, type(size)) == (32, int)


def test_a_batch_size_is_no_truth_value(write):
    with pytest.raises(SubmissionError, match="returned True for toy; it returns a positive int"):
        with_sizes(write, "return True")(TOY)
