"""A scored leaderboard as tables."""

import polars as pl
import pytest

from algoperf_scoring import board, bootstrap, logs, tables


@pytest.fixture
def scored(tmp_path, rules, write_board, write_trial, trial_path):
    write_board(tmp_path)
    write_trial(tmp_path / trial_path("lion", "language"), [5, 20, 401], [10, 31.0, 32.0], metric="bleu")
    write_trial(
        tmp_path / trial_path("late", "language"), [5, 20, 401], [10, 20.0, 32.0], metric="bleu", end_reason="budget"
    )
    return board.score(logs.read([tmp_path], rules, "external"))


@pytest.fixture
def found(scored, rules):
    drawn = bootstrap.bootstrap(scored.times.time_s, rules, scored.missing, 2)
    return tables.tables(scored, drawn)


def test_scores_are_in_the_order_of_the_ranking(scored, found):
    names = [scored.times.submissions[row] for row in scored.ranking]
    assert found["scores"]["submission"].to_list() == names
    assert found["scores"]["score"].to_list() == sorted(scored.score.tolist(), reverse=True)


def test_times_have_a_row_for_each_cell_and_no_infinity(scored, found, rules):
    times = found["times"]
    assert len(times) == 4 * len(rules.scored)
    cell = times.filter(submission="lion", workload="language").row(0, named=True)
    assert (cell["time_to_target_s"], cell["study_0_s"], cell["study_1_s"]) == (20.0, 20.0, None)
    assert (cell["ratio"], cell["reason"], cell["complete"]) == (1.0, None, False)
    missed = times.filter(submission="late", workload="language").row(0, named=True)
    assert (missed["time_to_target_s"], missed["reason"]) == (None, "over_budget")
    floats = times.select(pl.col(pl.Float64).is_finite().all())
    assert all(floats.row(0))


def test_trials_have_a_row_for_each(scored, found):
    trials = found["trials"]
    assert len(trials) == len(scored.logs.trials)
    late = trials.filter(submission="late").row(0, named=True)
    assert late == {
        "submission": "late",
        "workload": "language",
        "framework": "jax",
        "study": 0,
        "trial": 1,
        "evaluations": 3,
        "end_reason": "budget",
        "reached_at_evaluation": 2,
        "time_to_target_s": 401.0,
        "after_budget": True,
        "counts": False,
    }


def test_tables_survive_csv(found, tmp_path):
    for name, table in found.items():
        table.write_csv(tmp_path / f"{name}.csv")
        again = pl.read_csv(tmp_path / f"{name}.csv", schema=table.schema)
        # Empty text is null in CSV.
        assert again.with_columns(pl.col(pl.String).fill_null("")).equals(
            table.with_columns(pl.col(pl.String).fill_null(""))
        )
