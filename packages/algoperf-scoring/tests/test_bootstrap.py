"""Resampled leaderboards."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf_scoring import bootstrap as module
from algoperf_scoring import profiles, times
from algoperf_scoring.bootstrap import LEVEL, RESAMPLES, bootstrap
from algoperf_scoring.rules import Rules, RulesetRules, WorkloadRules
from algoperf_scoring.times import Missing

INF, NAN = math.inf, math.nan
RULES = Rules(
    name="test",
    hardware="none",
    base=("one", "two"),
    workloads={name: WorkloadRules(metric="loss", goal="min", target=1.0, budget_s=100) for name in ("one", "two")},
    rulesets={"external": RulesetRules(studies=3, trials=1, budget_factor=1.0)},
)
SINGLE = replace(RULES, base=("one",))
RANDOM = np.random.default_rng(1).uniform(1, 6, (4, 2, 5))


def draw(time_s, rules=RULES, missing=Missing.DROP, studies=3, **options):
    return bootstrap(np.array(time_s, dtype=float), rules, missing, studies, **options)


def test_seed():
    first, same, other = (draw(RANDOM, resamples=50, seed=seed) for seed in (3, 3, 4))
    for name in ("score", "interval", "rank_interval", "first", "beats"):
        np.testing.assert_array_equal(getattr(first, name), getattr(same, name))
    assert (first.score != other.score).any()
    assert draw(RANDOM).score.shape == (RESAMPLES, 4)


def test_draws_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    """Also where a block holds an odd number of draws."""
    time_s = RANDOM[:1, :1, :3]
    draws = np.random.default_rng(7).integers(0, 3, (41, *time_s.shape))
    expected = np.median(np.take_along_axis(time_s[None], draws, axis=-1), axis=-1)
    for size in (1, 10, 2**16):
        monkeypatch.setattr(module, "_BLOCK_ELEMENTS", size)
        blocks = list(module.resampled_medians(time_s, Missing.DROP, 3, resamples=41, seed=7))
        assert len(blocks) == {1: 41, 10: 14, 2**16: 1}[size]
        np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_every_board_is_a_board_of_the_drawn_studies():
    """Two studies: each cell's median is one of three, and all of their combinations come up."""
    time_s = np.array([[[1.0, 2.0]], [[1.5, 4.0]]])
    possible = {
        tuple(profiles.score(profiles.ratios(np.array([[x], [y]]), SINGLE), SINGLE).tolist())
        for x in (1.0, 1.5, 2.0)
        for y in (1.5, 2.75, 4.0)
    }
    assert {tuple(row) for row in draw(time_s, SINGLE, resamples=500).score.tolist()} == possible


def test_summaries_are_those_of_the_scores():
    drawn = draw(RANDOM, resamples=400)
    assert LEVEL == 0.95
    low, high = drawn.interval.T
    ordered = np.sort(drawn.score, axis=0)
    np.testing.assert_allclose(low, np.quantile(drawn.score, 0.025, axis=0), rtol=1e-12)
    assert ((ordered[9] <= low) & (low <= ordered[10])).all()
    assert ((ordered[389] <= high) & (high <= ordered[390])).all()
    ranks = np.array([[1 + sum(other > one for other in row) for one in row] for row in drawn.score.tolist()])
    for index in range(4):
        lowest, highest = drawn.rank_interval[index]
        # Of 400 boards, ten lie beyond either end; which of two neighbours is the end is a convention.
        assert (ranks[:, index] < lowest).sum() <= 10 <= (ranks[:, index] <= lowest).sum()
        assert (ranks[:, index] > highest).sum() <= 10 <= (ranks[:, index] >= highest).sum()
        assert drawn.first[index] == pytest.approx((ranks[:, index] == 1).mean())
        for other in range(4):
            above = drawn.score[:, index] > drawn.score[:, other]
            equal = drawn.score[:, index] == drawn.score[:, other]
            assert drawn.beats[index, other] == pytest.approx(above.mean() + equal.mean() / 2)


STUDY = st.sampled_from([1.0, 2.0, 3.0, 5.0, 9.0, INF, NAN])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.lists(STUDY, min_size=3, max_size=3), min_size=2, max_size=2), min_size=1, max_size=5),
    st.sampled_from(Missing),
)
def test_what_is_always_true(rows, missing):
    drawn = draw(rows, missing=missing, resamples=40)
    assert ((drawn.score >= 0) & (drawn.score <= 1)).all()
    middle = np.median(drawn.score, axis=0)
    assert (drawn.interval[:, 0] <= middle + 1e-12).all()
    assert (middle <= drawn.interval[:, 1] + 1e-12).all()
    assert (drawn.rank_interval[:, 0] >= 1).all()
    assert (drawn.rank_interval[:, 0] <= drawn.rank_interval[:, 1]).all()
    assert (drawn.rank_interval[:, 1] <= len(rows)).all()
    np.testing.assert_allclose(drawn.beats + drawn.beats.T, 1, rtol=0, atol=1e-12)
    # On every board somebody is first; equals share that.
    assert drawn.first.sum() == pytest.approx(1)


def test_one_study_leaves_nothing_to_draw():
    time_s = RANDOM[..., :1]
    drawn = draw(time_s, resamples=20)
    score = profiles.score(profiles.ratios(time_s[..., 0], RULES), RULES)
    np.testing.assert_array_equal(drawn.interval, np.stack([score, score], axis=1))
    assert sorted(drawn.rank_interval.tolist()) == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert set(drawn.beats.flatten().tolist()) <= {0.0, 0.5, 1.0}


def test_equal_submissions_share_the_better_rank():
    equal, slow = [[10.0] * 3] * 2, [[20.0] * 3] * 2
    drawn = draw([slow, equal, equal], resamples=20)
    assert drawn.rank_interval.tolist() == [[3, 3], [1, 1], [1, 1]]
    assert drawn.first.tolist() == [0, 0.5, 0.5]
    assert drawn.beats.tolist() == [[0.5, 0, 0], [1, 0.5, 0.5], [1, 0.5, 0.5]]


def test_a_study_that_missed_costs_its_share_of_the_boards():
    """Of two studies one missed: only both draws of the other one, a quarter of the boards, reach the target."""
    drawn = draw([[[1.0, INF]], [[1.0, 1.0]]], SINGLE, resamples=20_000)
    # Five standard errors of a share of a quarter.
    assert drawn.score[:, 0].mean() == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 20_000))
    # On those they share the first place.
    assert drawn.first[0] == pytest.approx(drawn.score[:, 0].mean() / 2)
    assert drawn.first[1] == pytest.approx(1 - drawn.first[0])
    assert drawn.beats[0, 1] == pytest.approx(drawn.first[0])
    assert drawn.interval.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(("missing", "share"), [(Missing.DROP, 1.0), (Missing.NEVER_REACHED, 0.25)])
def test_absent_studies_are_not_drawn(missing, share):
    """Dropped, there is nothing to draw; as one that never reached, both draws have to be of the present one."""
    drawn = draw([[[1.0, NAN]]], SINGLE, missing, studies=2, resamples=20_000)
    assert drawn.score.mean() == pytest.approx(share, abs=5 * math.sqrt(0.25 * 0.75 / 20_000))


@pytest.mark.parametrize("missing", Missing)
def test_what_studies_are_called_and_which_others_have_does_not_matter(missing):
    """A study of another number makes room for none in the others' rows, but leaves them as they are."""
    apart = [[[1.0, 2.0, 3.0, NAN, NAN, NAN]], [[NAN, NAN, NAN, 2.0, 3.0, 4.0]]]
    together = [[[1.0, 2.0, 3.0]], [[2.0, 3.0, 4.0]]]
    one, other = (draw(rows, SINGLE, missing, studies=3) for rows in (apart, together))
    np.testing.assert_array_equal(one.score, other.score)
    # A single study has no width beside one with three.
    lone = draw([[[1.0, 1.0, 1.0]], [[NAN, 2.0, NAN]]], SINGLE, Missing.DROP, studies=3)
    assert lone.interval[1].tolist() == [lone.score[0, 1]] * 2


def test_cells_are_drawn_independently():
    """Two workloads of one submission, each with a quarter of the boards: a sixteenth has both."""
    drawn = draw([[[1.0, INF], [1.0, INF]]], resamples=20_000)
    shares = [(drawn.score == value).mean() for value in (0, 0.5, 1)]
    for share, expected in zip(shares, (9 / 16, 6 / 16, 1 / 16), strict=True):
        assert share == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / 20_000))


def test_no_studies():
    drawn = draw(np.empty((2, 2, 0)), resamples=10)
    assert drawn.interval.tolist() == [[0, 0], [0, 0]]
    assert drawn.rank_interval.tolist() == [[1, 1], [1, 1]]


def test_resampling_centres_on_the_board():
    """With studies that hardly differ, so do the boards."""
    time_s = RANDOM[..., :1] * np.random.default_rng(2).uniform(1, 1 + 1e-6, RANDOM.shape)
    time_s = np.where(time_s > 3.9, INF, time_s)
    score = profiles.score(profiles.ratios(times.medians(time_s), RULES), RULES)
    drawn = draw(time_s, resamples=100)
    np.testing.assert_allclose(drawn.interval, np.stack([score, score], axis=1), rtol=0, atol=1e-5)
