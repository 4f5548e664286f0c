"""Numbers come back bit for bit, and what one file holds never changes what another says."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from algoperf_scoring import evaluations, logs
from algoperf_scoring.anomalies import Kind

NAME = "eval_measurements.csv"
NEEDED = ("accumulated_submission_time", "global_step", "score", "validation/accuracy")


def read(folders, metrics="accuracy"):
    """The evaluations of each folder's trial, and the anomalies."""
    names = [metrics] * len(folders) if isinstance(metrics, str) else metrics
    found, *_, anomalies = evaluations.read(folders, names)
    return found, anomalies


def as_bytes(rows):
    return {name: values.tobytes() for name, values in vars(rows).items()}


def put(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(content)
    return folder


TIMES = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)
# One NaN: repr() keeps no more of it.
NUMBERS = st.floats(allow_nan=False) | st.just(np.nan)


class TestNumbers:
    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(TIMES, NUMBERS, NUMBERS), min_size=1, max_size=8))
    @example([(5e-324, -0.0, 1.7976931348623157e308), (0.1 + 0.2, 2.2250738585072011e-308, 1e22), (1e-5, 1e16, -5e-7)])
    @example([(1.7e308, 0.5, 1.0), (0.0, 0.5, 1.0)])
    def test_floats_come_back_bit_for_bit(self, tmp_path_factory, write_trial, values):
        times, metrics, steps = (list(column) for column in zip(*values))
        columns = {"accumulated_eval_time": steps, "accumulated_logging_time": times[::-1], "global_step": steps}
        (rows,), _ = read([write_trial(tmp_path_factory.mktemp("floats"), times, metrics, **columns)])
        assert as_bytes(rows) == as_bytes(
            evaluations.Evaluations(
                step=np.array(steps),
                time_s=np.array(times),
                eval_s=np.array(steps),
                logging_s=np.array(times[::-1]),
                metric=np.array(metrics),
            )
        )

    def test_columns_are_found_by_name(self, tmp_path, write_trial, evaluations_csv):
        shuffled = ["validation/accuracy", "x", "score", "accumulated_eval_time", "global_step"]
        lines = [shuffled, ["0.5", "word", "1.5", "2.5", "3"], ["0.75", "", "4.5", "5.5", "6"]]
        (rows,), anomalies = read([put(tmp_path, b"".join(",".join(line).encode() + b"\n" for line in lines))])
        assert anomalies == []
        assert rows.metric.tolist() == [0.5, 0.75]
        assert rows.time_s.tolist() == [1.5, 4.5]
        assert rows.eval_s.tolist() == [2.5, 5.5]
        assert rows.step.tolist() == [3, 6]
        assert np.isnan(rows.logging_s).all()

    def test_other_splits_are_not_the_metric(self, tmp_path, write_trial):
        columns = {"train/accuracy": [0.9, 0.9], "test/accuracy": [0.8, 0.8], "accuracy": [0.7, 0.7]}
        (rows,), _ = read([write_trial(tmp_path, [1.0, 2.0], [0.1, 0.2], **columns)])
        assert rows.metric.tolist() == [0.1, 0.2]

    def test_the_score_is_the_time_where_there_is_one(self, tmp_path, write_trial):
        columns = {"accumulated_submission_time": [7.0, 8.0]}
        folders = [
            write_trial(tmp_path / "both", [1.0, 2.0], [0.5, 0.5], **columns),
            write_trial(tmp_path / "one", [1.0, 2.0], [0.5, 0.5], without=("score",), **columns),
        ]
        (both, one), anomalies = read(folders)
        assert both.time_s.tolist() == [1.0, 2.0]
        assert one.time_s.tolist() == [7.0, 8.0]
        assert [anomaly.kind for anomaly in anomalies] == [Kind.SCORE_IS_NOT_TIME]

    def test_more_files_than_are_parsed_at_a_time(self, tmp_path, write_trial):
        numbers = range(600)
        metrics = [("wer", "accuracy", "bleu", "wer", "loss")[number % 5] for number in numbers]
        folders = [
            write_trial(
                tmp_path / str(number), [number + 0.5] * (number % 3), [float(number)] * (number % 3), metric=metric
            )
            for number, metric in zip(numbers, metrics, strict=True)
        ]
        found, anomalies = read(folders, metrics)
        assert [rows.time_s.tolist() for rows in found] == [[number + 0.5] * (number % 3) for number in numbers]
        assert [rows.metric.tolist() for rows in found] == [[float(number)] * (number % 3) for number in numbers]
        assert {(one.path.parent.name, one.kind) for one in anomalies} == {
            (str(number), Kind.ONE_EVALUATION if number % 3 else Kind.HEADER_ONLY)
            for number in numbers
            if number % 3 < 2
        }

    def test_nothing(self):
        assert read([]) == ([], [])
        assert len(evaluations.concatenate([])) == 0


class TestCutFiles:
    """What a killed process or a full disk leaves."""

    TIMES, METRICS = [105.25, 211.5, 1317.125], [0.123456789, 0.5, 0.25125]

    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
    @pytest.mark.parametrize(
        "without", [(), ("validation/num_examples", "validation/loss")], ids=["all", "metric last"]
    )
    def test_no_cut_makes_a_wrong_number(self, tmp_path, evaluations_csv, line_end, without):
        content = evaluations_csv(self.TIMES, self.METRICS, without=without).replace(b"\n", line_end)
        header = content.split(line_end)[0]
        cuts = range(len(header) + len(line_end), len(content) + 1)
        found, anomalies = read([put(tmp_path / str(cut), content[:cut]) for cut in cuts])
        said = {(one.path.parent.name, one.kind) for one in anomalies}
        for cut, rows in zip(cuts, found, strict=True):
            count = len(rows)
            assert rows.time_s.tolist() == self.TIMES[:count]
            assert rows.metric.tolist() == self.METRICS[:count]
            assert rows.step.tolist() == [1, 101, 201][:count]
            assert rows.eval_s.tolist() == [0.25, 1.25, 2.25][:count]
            assert rows.logging_s.tolist() == [0.5, 1.5, 2.5][:count]
            whole = content[:cut].count(b"\n") - 1
            # A line whose last field alone may be cut counts, if scoring does not need that field.
            rest = content[:cut].rpartition(b"\n")[2]
            is_enough = not without and rest.count(b",") == header.count(b",")
            assert count == whole + is_enough
            assert ((str(cut), Kind.TRUNCATED_LINE) in said) == (rest != b"" and not is_enough)
            assert ((str(cut), Kind.ONE_EVALUATION) in said) == (count == 1)

    def test_no_cut_of_the_header_makes_a_row(self, tmp_path, evaluations_csv):
        content = evaluations_csv(self.TIMES, self.METRICS)
        cuts = range(content.index(b"\n") + 1)
        found, anomalies = read([put(tmp_path / str(cut), content[:cut]) for cut in cuts])
        assert [len(rows) for rows in found] == [0] * len(cuts)
        said = {one.path.parent.name: one.kind for one in anomalies if one.kind is not Kind.MISSING_COLUMN}
        assert said == {str(cut): Kind.HEADER_ONLY if cut else Kind.EMPTY_FILE for cut in cuts}

    def test_a_cut_line_that_is_written_on_makes_no_wrong_number(self, tmp_path, evaluations_csv):
        header, first, second, third = evaluations_csv(self.TIMES, self.METRICS).splitlines(keepends=True)
        cuts = range(len(second))
        found, anomalies = read([put(tmp_path / str(cut), header + first + second[:cut] + third) for cut in cuts])
        said = {one.path.parent.name for one in anomalies if one.kind is Kind.UNREADABLE_ROW}
        true = list(zip(self.TIMES, self.METRICS, [1, 101, 201], strict=True))
        for cut, rows in zip(cuts, found, strict=True):
            pairs = list(zip(rows.time_s.tolist(), rows.metric.tolist(), rows.step.tolist(), strict=True))
            assert pairs in ([true[0]], [true[0], true[2]]), second[:cut]
            assert (str(cut) in said) == (len(pairs) == 1)


class TestMissingColumns:
    @pytest.mark.parametrize("column", ["validation/accuracy", "global_step", "score"])
    @pytest.mark.parametrize("is_first", [False, True])
    def test_nothing_comes_from_another_file(self, tmp_path, write_trial, column, is_first):
        without = ("score", "accumulated_submission_time") if column == "score" else (column,)
        lacking = [
            write_trial(tmp_path / name, times, [0.5, 0.5], without=without)
            for name, times in (("lacks_1", [3.0, 4.0]), ("lacks_2", [5.0, 6.0]))
        ]
        whole = [write_trial(tmp_path / f"whole_{number}", [1.0, 2.0], [0.1, 0.2]) for number in range(3)]
        folders = [*lacking, *whole] if is_first else [*whole, *lacking]
        found, anomalies = read(folders)
        by_folder = dict(zip(folders, found, strict=True))
        assert [(one.path.parent, one.kind, one.detail) for one in anomalies] == [
            (folder, Kind.MISSING_COLUMN, column) for folder in lacking
        ]
        for folder in whole:
            assert by_folder[folder].time_s.tolist() == [1.0, 2.0]
            assert by_folder[folder].metric.tolist() == [0.1, 0.2]
        for folder, times in zip(lacking, ([3.0, 4.0], [5.0, 6.0]), strict=True):
            rows = by_folder[folder]
            assert rows.time_s.tolist() == ([] if column == "score" else times)
            assert np.isnan(rows.metric).all() == (column == "validation/accuracy" or not len(rows))
            assert np.isnan(rows.step).all() == (column == "global_step" or not len(rows))

    def test_of_two_metrics_under_one_header_each_gets_its_own(self, tmp_path, write_trial, rules, trial_path):
        columns = {"validation/wer": [0.9, 0.8]}
        for workload in ("vision", "speech", "language"):
            write_trial(tmp_path / trial_path("adam", workload), [1.0, 2.0], [0.1, 0.2], **columns)
        found = logs.read([tmp_path], rules, "external")
        metrics = {trial.folder.workload: found.evaluations.metric[trial.rows].tolist() for trial in found.trials}
        assert np.isnan(metrics.pop("language")).tolist() == [True, True]
        assert metrics == {"vision": [0.1, 0.2], "speech": [0.9, 0.8]}
        missing = [(one.path.parent, one.detail) for one in found.anomalies if one.kind is Kind.MISSING_COLUMN]
        assert missing == [(tmp_path / trial_path("adam", "language"), "validation/bleu")]


# What parsers take for the end of a line, of a field or of a file.
PIECES = [
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b"\x0b",
        b"\x0c",
        b"\x1a",
        b"\x1c\x1d\x1e",
        b"\x85",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\x00",
    ),
    *(b'"', b'""', b"'", b"\\", b",", b"," * 30, b"#", b" ", b"\t", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80"),
    *(b"1.5", b"nan", b"inf", b"-", b"1e999", b"x" * 3000, b"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"),
]
HEADERS = st.lists(
    st.sampled_from([*NEEDED, "", "x", '"', "\x00", "score_duplicated_0", "column_1", '"score"', " score", "\r"])
).map(lambda names: ",".join(names).encode())


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory, evaluations_csv, write_trial):
    """Three good trials around the one in the folder "odd", and what they say without it."""
    root = tmp_path_factory.mktemp("neighbours")
    content = evaluations_csv([1.5, 2.5], [0.25, None])
    folders = [put(root / "a", content), put(root / "b", content), write_trial(root / "c", [3.5, 4.5], [0.1, 0.2])]
    (root / "odd").mkdir()
    found, anomalies = read(folders)
    assert [len(rows) for rows in found] == [2, 2, 2]
    return root / "odd", content.splitlines()[0], folders, [as_bytes(rows) for rows in found], anomalies


def check_neighbours(neighbours, content):
    odd, _, (first, second, third), expected, expected_anomalies = neighbours
    put(odd, content)
    found, anomalies = read([first, odd, second, odd, third], ["accuracy"] * 3 + ["wer", "accuracy"])
    assert [as_bytes(found[index]) for index in (0, 2, 4)] == expected
    assert [one for one in anomalies if one.path.parent != odd] == expected_anomalies
    rows = found[1]
    assert {len(values) for values in vars(rows).values()} == {len(rows)}
    assert len(rows) <= content.count(b"\n") + 1
    assert np.isfinite(rows.time_s).all()
    # What gives nothing says why.
    assert len(rows) or any(one.path.parent == odd for one in anomalies)


class TestAnyBytes:
    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=30), max_size=12).map(b"".join))
    def test_under_a_good_header(self, neighbours, body):
        check_neighbours(neighbours, neighbours[1] + b"\n" + body)

    @settings(deadline=None, max_examples=200)
    @given(HEADERS | st.binary(max_size=40), st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join))
    @example(b"score,score", b"1,2\n3,4\n")
    @example(b"score,score,score_duplicated_0", b"1,2,3\n")
    @example(b"", b"1,2,3\n")
    @example(b"score", b"\n\n1\n\n")
    @example(b"score\r", b"\r\n")
    def test_under_any_header(self, neighbours, header, body):
        check_neighbours(neighbours, header + b"\n" + body)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=200))
    def test_as_a_whole_file(self, neighbours, content):
        check_neighbours(neighbours, content)

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_in_the_middle_of_a_good_file(self, neighbours, data):
        good = (neighbours[2][0] / NAME).read_bytes()
        start = data.draw(st.integers(0, len(good)))
        stop = data.draw(st.integers(start, len(good)))
        middle = data.draw(st.sampled_from(PIECES) | st.binary(max_size=5))
        check_neighbours(neighbours, good[:start] + middle + good[stop:])

    def test_so_much_that_the_parser_splits_it(self, neighbours, tmp_path, evaluations_csv):
        """A parser that works on parts at once must not guess where lines start."""
        rng = np.random.default_rng(0)
        times, metrics = rng.random((2, 10_000))
        content = evaluations_csv(times.tolist(), metrics.tolist())
        header = content.splitlines(keepends=True)[0]
        bodies = [
            b"\n" * 50_000,
            b"x" * 2_000_000 + b"\n",
            b"," * 2_000_000 + b"\n",
            b'"\n' * 10_001,
            b"\r" * 100_000 + b"\n",
            b"1,2\n" * 20_000,
            header * 1_000,
            b"\x85\x0b\x0c\x00\xff\n" * 10_000,
        ]
        odd = [put(tmp_path / f"odd_{index}", header + body) for index, body in enumerate(bodies)]
        good = [put(tmp_path / f"good_{index}", content) for index in range(len(odd))]
        folders = [folder for pair in zip(odd, good, strict=True) for folder in pair]
        found, anomalies = read(folders)
        for rows in found[1::2]:
            assert rows.time_s.tobytes() == times.tobytes()
            assert rows.metric.tobytes() == metrics.tobytes()
        assert [len(rows) for rows in found[::2]] == [0] * len(odd)
        assert {folder for folder in odd if folder not in {one.path.parent for one in anomalies}} == set()
