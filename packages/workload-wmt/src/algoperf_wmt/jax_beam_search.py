"""Beam search in JAX: the most probable translations, pursued token by token (Wu et al., 2016).

Scores and their length penalty: https://arxiv.org/abs/1609.08144, equation 14, without its coverage.

In shapes, B is the number of sentences, K of beams, V of tokens that there are, and L the longest sequence, the start
token included.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from algoperf_wmt.spec import END, START, BeamSearch

Cache: TypeAlias = Any  # a pytree of arrays
Step: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]


class _State(NamedTuple):
    """A search after `position` steps; sequences are zero behind what is known of them.

    Attributes:
        position: of the last token of the live beams; int32 scalar.
        tokens: live beams, the best first; int32 [B, K, L].
        log_probs: of live beams, -inf for those that there are not yet; float32 [B, K].
        history: in which slot of the cache each token of a live beam is; int32 [B, K, L].
        best_tokens: the best sequence that has ended; int32 [B, L].
        best_scores: its score, -inf as long as there is none, inf for padding; float32 [B].
        cache: what `step` remembers.
    """

    position: jax.Array
    tokens: jax.Array
    log_probs: jax.Array
    history: jax.Array
    best_tokens: jax.Array
    best_scores: jax.Array
    cache: Cache


def beam_search(
    step: Step, cache: Cache, is_real: jax.Array, search: BeamSearch, max_length: int
) -> tuple[jax.Array, jax.Array]:
    """The best sequence of each sentence that a beam search finds.

    In each step every live beam is extended by all tokens. Of the 2K best extensions those that end compete to be the
    result by log probability / ((5 + n) / 6)^alpha, n tokens long, and the K best of the others live on. 2K, so that K
    do not end. Of equal ones the earlier beam and the lower token win.

    The search ends when each sentence's result has a higher score than any live beam can get. That is exact: a beam's
    log probability only falls, and no sequence is divided by more than the longest is, so the best live log probability
    by the penalty of the longest bounds all scores to come. For the same reason the result of such a sentence stays
    what it is while others go on. The usual rule waits until this holds for the K best sequences that have ended, of
    which only the first is wanted.

    It can be part of a jitted function, and of one under `jax.shard_map` with `check_vma=False`: each device then stops
    by itself.

    Args:
        step: `(tokens, position, history, cache) -> (logits, cache)`: logits, float32 [B, K, V], of the token after
            `tokens`, int32 [B, K], which are at `position`, an int32 scalar. The cache has a slot for each beam and
            position and is never reordered: what `step` stores at (k, position) stays there, and `history`, int32
            [B, K, L], tells in which slot k each token, up to and including `position`, of the beam's sequence is.
        cache: what `step` is first called with; a pytree of arrays.
        is_real: which sentences are no padding, bool [B]; the search does not go on for the others.
        search: K and alpha.
        max_length: L; the longest translation has one token less.

    Returns:
        Tokens, int32 [B, L - 1], without the start token and zero after END, and their scores, float32 [B]. Where no
        sequence has ended these are the most probable live one and its log probability, without a penalty. Of padding
        they are zeros and inf.
    """
    penalties = _length_penalties(search, max_length)

    def goes_on(state: _State) -> jax.Array:
        bounds = state.log_probs[:, 0] / penalties[-1]
        is_open = (state.best_scores <= bounds) & (bounds > -jnp.inf)
        return (state.position < max_length - 1) & is_open.any()

    def advance(state: _State) -> _State:
        tokens = lax.dynamic_index_in_dim(state.tokens, state.position, axis=2, keepdims=False)
        logits, cache = step(tokens, state.position, state.history, state.cache)
        return _extend(state._replace(cache=cache), logits, penalties)

    state = lax.while_loop(goes_on, advance, _start(cache, is_real, search.num_beams, max_length))
    has_ended = state.best_scores > -jnp.inf
    tokens = jnp.where(has_ended[:, None], state.best_tokens, state.tokens[:, 0])
    return tokens[:, 1:], jnp.where(has_ended, state.best_scores, state.log_probs[:, 0])


def _length_penalties(search: BeamSearch, max_length: int) -> np.ndarray:
    """What log probabilities of 0, 1, .., max_length - 1 tokens are divided by."""
    return (((5 + np.arange(max_length)) / 6) ** search.length_penalty).astype(np.float32)


def _start(cache: Cache, is_real: jax.Array, num_beams: int, max_length: int) -> _State:
    """One live beam per sentence, of the start token."""
    shape = (len(is_real), num_beams, max_length)
    return _State(
        position=jnp.int32(0),
        tokens=jnp.full(shape, START, jnp.int32),
        log_probs=jnp.full(shape[:2], -jnp.inf).at[:, 0].set(0),
        history=jnp.broadcast_to(jnp.arange(num_beams)[:, None], shape),
        best_tokens=jnp.zeros((len(is_real), max_length), jnp.int32),
        best_scores=jnp.where(is_real, -jnp.inf, jnp.inf),
        cache=cache,
    )


def _extend(state: _State, logits: jax.Array, penalties: np.ndarray) -> _State:
    """The state with one more token, of which `logits` are given, [B, K, V]."""
    num_beams = logits.shape[1]
    position = state.position + 1
    log_probs, parents, tokens = _best_extensions(state.log_probs, logits)
    is_end = tokens == END

    # All of this step have the same penalty: the most probable is the best.
    ended = jnp.where(is_end, log_probs, -jnp.inf)
    best = ended.argmax(axis=1)
    scores = ended.max(axis=1) / jnp.asarray(penalties)[position]
    best_tokens = _pick(state.tokens, parents, best[:, None])[:, 0].at[:, position].set(END)
    is_better = scores > state.best_scores

    log_probs, live = lax.top_k(jnp.where(is_end, -jnp.inf, log_probs), num_beams)
    return _State(
        position=position,
        tokens=_pick(state.tokens, parents, live).at[:, :, position].set(jnp.take_along_axis(tokens, live, axis=1)),
        log_probs=log_probs,
        history=_pick(state.history, parents, live).at[:, :, position].set(jnp.arange(num_beams)),
        best_tokens=jnp.where(is_better[:, None], best_tokens, state.best_tokens),
        best_scores=jnp.where(is_better, scores, state.best_scores),
        cache=state.cache,
    )


def _best_extensions(log_probs: jax.Array, logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log probabilities, beams and last tokens of the 2K best of K * V extensions, each [B, 2K], the best first."""
    num_beams, vocab_size = logits.shape[1:]
    # Sums of a shorter type would not tell sentences apart.
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    # No beam contributes more than 2K, so it suffices to normalise those.
    top, tokens = lax.top_k(logits, min(2 * num_beams, vocab_size))
    extended = log_probs[:, :, None] + (top - jax.nn.logsumexp(logits, axis=2, keepdims=True))
    # What is no number leads nowhere.
    extended = jnp.where(jnp.isnan(extended), -jnp.inf, extended)
    extended, index = lax.top_k(extended.reshape(len(logits), -1), 2 * num_beams)
    tokens = jnp.take_along_axis(tokens.reshape(len(logits), -1), index, axis=1)
    return extended, index // top.shape[2], tokens


def _pick(rows: jax.Array, parents: jax.Array, chosen: jax.Array) -> jax.Array:
    """The rows, of [B, K, L], of the parents of the `chosen` extensions, [B, N]; [B, N, L]."""
    return jnp.take_along_axis(rows, jnp.take_along_axis(parents, chosen, axis=1)[:, :, None], axis=1)
