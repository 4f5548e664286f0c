"""Beam search in both frameworks: against the plain one of `plain_beam_search`, its numbers, and all sequences."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import plain_beam_search as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_wmt.spec import END, BeamSearch

for framework in Framework:
    require(framework)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torch  # noqa: E402

from algoperf_wmt import jax_beam_search, torch_beam_search  # noqa: E402

NUM_SENTENCES, TABLE_ROWS = 5, 997
# Scores are sums of at most 7 differences of numbers of up to 16, which float32 resolves to 2e-6; -100 less than that.
ROUNDING = {"rtol": 1e-6, "atol": 1e-5}
# What JAX compiles for: vocabulary, beams, alpha, length.
SHAPES = [(3, 4, 0.6, 8), (5, 1, 0.0, 6), (6, 2, 1.0, 2), (7, 3, 0.3, 7), (12, 4, 0.6, 8), (9, 4, 0.0, 5)]


@dataclass(frozen=True)
class Model:
    """Made-up logits: rows of a table [B, TABLE_ROWS, V], by a hash of all tokens so far or of the last one alone."""

    table: np.ndarray
    looks_back: bool

    def next_row(self, row, token, position):
        """The row after one more token, for arrays of any framework."""
        return (row * 31 * self.looks_back + token * 41 + position + 1) % TABLE_ROWS

    def __call__(self, sequences):
        row = 0
        for t in range(sequences.shape[2]):
            row = self.next_row(row, sequences[:, :, t], t)
        return np.take_along_axis(self.table, row[:, :, None], axis=1)

    def rows(self, chosen):
        return Model(self.table[chosen], self.looks_back)


@st.composite
def models(draw, vocab_size, num_sentences=NUM_SENTENCES):
    """Of sentences that end early, late or never, or of some of each."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table = rng.normal(size=(num_sentences, TABLE_ROWS, vocab_size)) * draw(st.sampled_from([0.3, 1, 4]))
    readiness_to_end = draw(st.sampled_from([[-100, -2, 0, 2], [-4, -1, 0, 1], [0, 1, 2]]))
    table[:, :, END] += rng.choice(readiness_to_end, size=(num_sentences, 1))
    return Model(table.astype(np.float32), draw(st.booleans()))


def mask(model, is_real):
    """Which sentences are real, from an array of them or for all."""
    return np.broadcast_to(is_real, len(model.table)).copy()


def search_in_torch(model, num_beams, alpha, max_length, is_real=True):
    """Tokens, scores and the number of steps; `step` rebuilds each beam's sequence from the cache by the history."""
    table, calls = torch.from_numpy(model.table), []

    def step(tokens, position, history, cache):
        calls.append(position)
        assert tokens.dtype == history.dtype == torch.int32
        cache = torch.cat([cache, tokens[:, :, None]], dim=2)
        assert history.shape == cache.shape
        assert (history[:, :, -1] == torch.arange(num_beams)).all()
        sequences = cache.gather(1, history.long())
        row = torch.zeros_like(tokens)
        for t in range(position + 1):
            row = model.next_row(row, sequences[:, :, t], t)
        return table.gather(1, row.long()[:, :, None].expand(-1, -1, table.shape[2])), cache

    cache = torch.zeros(len(table), num_beams, 0, dtype=torch.int32)
    search = BeamSearch(num_beams=num_beams, length_penalty=alpha)
    tokens, scores = torch_beam_search.beam_search(
        step, cache, torch.from_numpy(mask(model, is_real)), search, max_length
    )
    assert tokens.dtype == torch.int32
    assert scores.dtype == torch.float32
    assert calls == list(range(len(calls)))
    return tokens.numpy(), scores.numpy(), len(calls)


@partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _jitted(table, is_real, looks_back, num_beams, alpha, max_length, count):
    def step(tokens, position, history, cache):
        jax.debug.callback(count, position)
        cache = cache.at[:, :, position].set(tokens)
        sequences = jnp.take_along_axis(cache, history, axis=1)
        row = jnp.zeros_like(tokens)
        for t in range(max_length):
            next_row = Model(table, looks_back).next_row(row, sequences[:, :, t], t)
            row = jnp.where(t <= position, next_row, row)
        return jnp.take_along_axis(table, row[:, :, None], axis=1), cache

    cache = jnp.zeros((len(table), num_beams, max_length), jnp.int32)
    search = BeamSearch(num_beams=num_beams, length_penalty=alpha)
    return jax_beam_search.beam_search(step, cache, is_real, search, max_length)


CALLS = []


def search_in_jax(model, num_beams, alpha, max_length, is_real=True):
    """The same in JAX."""
    CALLS.clear()
    arguments = (model.table, mask(model, is_real), model.looks_back, num_beams, alpha, max_length)
    tokens, scores = _jitted(*arguments, CALLS.append)
    jax.effects_barrier()
    assert tokens.dtype == jnp.int32
    assert scores.dtype == jnp.float32
    return np.asarray(tokens), np.asarray(scores), len(CALLS)


SEARCHES = {"jax": search_in_jax, "torch": search_in_torch}
in_both = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())


def check_against_the_plain_one(search, model, num_beams, alpha, max_length):
    tokens, scores, steps = search(model, num_beams, alpha, max_length)
    expected = plain.beam_search(model, len(model.table), num_beams, alpha, max_length)
    np.testing.assert_array_equal(tokens, expected[0])
    np.testing.assert_allclose(scores, expected[1], **ROUNDING)
    assert steps <= expected[2]


# The same examples in every run: in some other one, two sequences might differ by less than float32 resolves.
@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.data(), st.integers(3, 12), st.integers(1, 4), st.floats(0, 1), st.integers(2, 8))
def test_torch_finds_what_the_plain_search_finds(data, vocab_size, num_beams, alpha, max_length):
    check_against_the_plain_one(search_in_torch, data.draw(models(vocab_size)), num_beams, alpha, max_length)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.data(), st.sampled_from(SHAPES))
def test_jax_finds_what_the_plain_search_and_torch_find(data, shape):
    model = data.draw(models(shape[0]))
    check_against_the_plain_one(search_in_jax, model, *shape[1:])
    in_jax, in_torch = search_in_jax(model, *shape[1:]), search_in_torch(model, *shape[1:])
    np.testing.assert_array_equal(in_jax[0], in_torch[0])
    np.testing.assert_allclose(in_jax[1], in_torch[1], **ROUNDING)
    assert in_jax[2] == in_torch[2]


@in_both
@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.data(), st.sampled_from([0.0, 0.6, 1.0]), st.integers(2, 4))
def test_with_a_beam_for_every_sequence_the_best_of_all_is_found(search, data, alpha, max_length):
    model = data.draw(models(3, num_sentences=2))
    tokens, scores, _ = search(model, 8, alpha, max_length)
    for b in range(2):
        sequence, score = plain.best_of_all(model.rows([b]), 3, alpha, max_length)
        np.testing.assert_array_equal(tokens[b], sequence)
        assert scores[b] == pytest.approx(score, rel=1e-6, abs=1e-5)


@in_both
@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.data())
def test_a_sentence_s_result_does_not_depend_on_the_others(search, data):
    model = data.draw(models(7))
    tokens, scores, steps = search(model, 3, 0.6, 8)
    sentences = st.integers(0, NUM_SENTENCES - 1)
    chosen = data.draw(st.lists(sentences, min_size=NUM_SENTENCES, max_size=NUM_SENTENCES))
    others = search(model.rows(chosen), 3, 0.6, 8)
    np.testing.assert_array_equal(others[0], tokens[chosen])
    np.testing.assert_array_equal(others[1], scores[chosen])
    # A batch goes on for as long as the slowest of its sentences.
    by_themselves = [search(model.rows([b] * NUM_SENTENCES), 3, 0.6, 8) for b in range(NUM_SENTENCES)]
    assert max(result[2] for result in by_themselves) == steps
    np.testing.assert_array_equal([result[0][0] for result in by_themselves], tokens)


def hash_uniform(n, index):
    """The formula that the published implementation was given these tables by."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)


def model_of(tables):
    """The model with the logits tables[b, position, last token]."""
    rows = np.zeros((len(tables), TABLE_ROWS, tables.shape[3]), np.float32)
    model = Model(rows, looks_back=False)
    length, vocab_size = tables.shape[1:3]
    # One row for each: positions and tokens must not share any.
    indices = [[model.next_row(0, token, t) for token in range(vocab_size)] for t in range(length)]
    rows[:, indices] = tables
    return model


def search_plainly(model, num_beams, alpha, max_length):
    return plain.beam_search(model, len(model.table), num_beams, alpha, max_length)


# The published rule takes 27 steps, where ours is sure of the result after 19.
with_steps = {search_plainly: 27, search_in_jax: 19, search_in_torch: 19}


@pytest.mark.parametrize(("search", "expected_steps"), with_steps.items(), ids=["plain", "jax", "torch"])
def test_the_published_numbers(search, expected_steps):
    tables = np.stack([16 * hash_uniform(40 * 81, 7 + b).reshape(40, 9, 9) for b in (0, 2)])
    tokens, scores, steps = search(model_of(tables), 4, 0.6, 40)
    first, second = [3, 8, 8, 3, 1, 5, 1, 7, 7, 7, 5, 1, 7, 2], [0, 7, 2]
    np.testing.assert_array_equal(tokens, [first + [0] * 25, second + [0] * 36])
    np.testing.assert_allclose(scores, [-1.3055326, -1.3178155], atol=1e-6)
    assert steps == expected_steps


@pytest.mark.parametrize("search", with_steps, ids=["plain", "jax", "torch"])
def test_the_published_numbers_of_a_sentence_that_does_not_end(search):
    table = 6 * hash_uniform(12 * 81, 9).reshape(12, 9, 9)
    table[:, :, END] -= 100
    tokens, scores, steps = search(model_of(table[None]), 4, 0.6, 12)
    np.testing.assert_array_equal(tokens, [[0, 8, 1, 4, 0, 4, 0, 7, 3, 4, 0]])
    np.testing.assert_allclose(scores, [-5.4027424], atol=1e-6)
    assert steps == 11


@in_both
def test_a_sequence_that_can_still_win_by_its_length_is_waited_for(search):
    table = np.full((1, 2, 4, 4), -100, np.float32)
    table[0, 0, :, [END, 3]] = np.log([[0.5], [0.46]])
    table[0, 1, :, END] = 0
    tokens, scores, steps = search(model_of(table), 1, 1.0, 3)
    # Less probable than [END, 0], but divided by 7 / 6 rather than by 1.
    np.testing.assert_array_equal(tokens, [[3, END]])
    np.testing.assert_allclose(scores, np.log([0.46 / 0.96]) / (7 / 6), rtol=1e-6)
    assert steps == 2


def test_among_equals_the_lowest_token_of_the_first_beam_wins_in_jax():
    model = Model(np.zeros((1, TABLE_ROWS, 6), np.float32), looks_back=True)
    model.table[:, :, [0, END]] = -100
    tokens, _, _ = search_in_jax(model, 2, 0.6, 4)
    np.testing.assert_array_equal(tokens, [[1, 1, 1]])


ON_TWO_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from algoperf_wmt.jax_beam_search import beam_search
from algoperf_wmt.spec import BeamSearch

def search(table):
    def step(tokens, position, history, cache):
        return jax.vmap(lambda t, token: t[position, token])(table, tokens), cache
    return beam_search(step, None, jnp.ones(len(table), bool), BeamSearch(), 40)

table = np.random.default_rng(0).normal(scale=4, size=(4, 40, 9, 9)).astype(np.float32)
table[2:, :, :, 2] -= 100
mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
shards = jax.shard_map(search, mesh=mesh, in_specs=P("batch"), out_specs=P("batch"), check_vma=False)
for divided, whole in zip(jax.jit(shards)(table), jax.jit(search)(table)):
    np.testing.assert_allclose(divided, whole, rtol=1e-6)
"""


@in_both
def test_the_search_does_not_go_on_for_padding(search):
    table = np.random.default_rng(0).normal(size=(3, TABLE_ROWS, 5)).astype(np.float32)
    table[:2, :, END] += 3
    # It would never end.
    table[2, :, END] = -100
    is_real = np.array([True, True, False])
    real = search(Model(table[:2], True), 3, 0.6, 12)
    tokens, scores, steps = search(Model(table, True), 3, 0.6, 12, is_real)
    assert steps == real[2] < 11
    np.testing.assert_array_equal(tokens[:2], real[0])
    np.testing.assert_allclose(scores[:2], real[1], **ROUNDING)
    assert not tokens[2].any()


@in_both
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("is_real", [True, False])
def test_what_is_no_number_spoils_nothing_else(search, number, is_real):
    table = np.random.default_rng(0).normal(size=(3, TABLE_ROWS, 5)).astype(np.float32)
    table[:2, :, END] += 3
    real = search(Model(table[:2], True), 3, 0.6, 12)
    table[2] = number
    tokens, scores, steps = search(Model(table, True), 3, 0.6, 12, np.array([True, True, is_real]))
    assert steps == real[2] < 11
    np.testing.assert_array_equal(tokens[:2], real[0])
    np.testing.assert_allclose(scores[:2], real[1], **ROUNDING)
    assert is_real or not tokens[2].any()


@in_both
def test_a_result_outlives_what_comes_after(search):
    # Only the first step has numbers. With a large penalty the beams that live on could still win.
    first = np.array([0, 3.1, 3, 1, 1], np.float32)
    table = np.full((1, TABLE_ROWS, 5), np.nan, np.float32)
    table[0, 1] = first
    tokens, scores, steps = search(Model(table, True), 3, 1.0, 12)
    assert tokens[0].tolist() == [END] + [0] * 10
    assert scores[0] == pytest.approx(3 - np.log(np.exp(first).sum()), abs=1e-5)
    assert steps == 2


def test_logits_of_a_shorter_type_are_told_apart():
    logits = np.random.default_rng(0).normal(scale=2, size=(1, 1, 32_000)).astype(np.float32)
    exact = np.sort(logits - np.log(np.exp(logits.astype(np.float64)).sum()), axis=2)[0, 0, -2:][::-1]
    shorter = torch.from_numpy(logits).bfloat16()
    in_torch, *_ = torch_beam_search._best_extensions(torch.zeros(1, 1), shorter)
    in_jax, *_ = jax_beam_search._best_extensions(jnp.zeros((1, 1)), jnp.asarray(logits, jnp.bfloat16))
    # The largest logits themselves are rounded to 2**-6.
    np.testing.assert_allclose(in_torch[0], exact, atol=0.02)
    np.testing.assert_allclose(in_jax[0], in_torch[0], atol=1e-5)


def test_devices_can_search_by_themselves_in_jax():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], env=environment, check=True)
