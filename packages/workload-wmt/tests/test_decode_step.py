"""One step of decoding with a cache is the decoder's forward pass, wherever the cache keeps a beam's past."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_wmt.spec import WMT, WMT_ATTENTION_TEMP, WMT_GLU_TANH, WMT_POST_LN, Transformer
from algoperf_wmt.weights import jax_to_torch

VARIANTS = [spec.model for spec in (WMT, WMT_POST_LN, WMT_ATTENTION_TEMP, WMT_GLU_TANH)]
SENTENCES, BEAMS, LENGTH, VOCAB = 3, 4, 9, 50
# Until here the first two beams are one.
FORK = 4


def small(model: Transformer) -> Transformer:
    return replace(model, vocab_size=VOCAB, width=16, num_heads=2, mlp_dim=24, num_layers=2, max_length=LENGTH)


class Jax:
    """The model in JAX, with numpy at its borders."""

    def __init__(self, config: Transformer) -> None:
        import jax
        import jax.numpy as jnp

        from algoperf_wmt.jax_attention import Tokens
        from algoperf_wmt.jax_model import TransformerModel

        self.tokens = Tokens
        model = TransformerModel(config)
        one = Tokens(jnp.zeros((1, 1), jnp.int32))
        shapes = jax.eval_shape(model.init, jax.random.key(0), one, one)["params"]
        leaves = jax.tree_util.tree_leaves_with_path(shapes)
        rng = np.random.default_rng(0)
        self.params = {"/".join(key.key for key in path): noise(rng, leaf.shape) for path, leaf in leaves}
        tree = jax.tree.unflatten(jax.tree.structure(shapes), list(self.params.values()))
        self.model = model.bind({"params": tree})
        # The position is traced.
        self.step = jax.jit(self.model.decode_step)

    def start(self, inputs: np.ndarray) -> Any:
        return self.model.start_decoding(self.model.encode(self.tokens(inputs)), inputs, BEAMS)

    def logits(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.asarray(self.model(self.tokens(inputs), self.tokens(targets)))


class Torch:
    """The model in PyTorch, with numpy at its borders."""

    def __init__(self, config: Transformer) -> None:
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_wmt.torch_attention import Tokens
        from algoperf_wmt.torch_model import TransformerModel

        self.config, self.tokens, self.place = config, Tokens, TorchBackend().place_batch
        self.model = TransformerModel(config).to(TorchBackend().device).requires_grad_(False)
        rng = np.random.default_rng(0)
        self.load({name: noise(rng, p.shape) for name, p in self.model.named_parameters()})

    def load(self, params: dict[str, np.ndarray]) -> None:
        self.model.load_state_dict(self.place(params))

    def step(self, tokens: np.ndarray, position: int, history: np.ndarray, cache: Any) -> Any:
        logits, cache = self.model.decode_step(self.place(tokens), position, self.place(history), cache)
        return logits.cpu().numpy(), cache

    def start(self, inputs: np.ndarray) -> Any:
        placed = self.place(inputs)
        return self.model.start_decoding(self.model.encode(self.tokens(placed)), placed, BEAMS)

    def logits(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return self.model(self.tokens(self.place(inputs)), self.tokens(self.place(targets))).cpu().numpy()


def noise(rng: np.random.Generator, shape: Any) -> np.ndarray:
    return 0.3 * rng.standard_normal(tuple(shape), np.float32)


def make(framework: Framework, model: Transformer) -> Any:
    require(framework)
    return (Jax if framework is Framework.JAX else Torch)(small(model))


class Search(NamedTuple):
    """What a search could have done.

    Attributes:
        inputs: sentences with padding [SENTENCES, S].
        sequences: the tokens of each beam's sequence, from the start token on [SENTENCES, BEAMS, LENGTH].
        slots: which slot goes on with a sequence at a position [SENTENCES, BEAMS, LENGTH].
        past: which slot has the token of a sequence at a position [SENTENCES, BEAMS, LENGTH].
    """

    inputs: np.ndarray
    sequences: np.ndarray
    slots: np.ndarray
    past: np.ndarray


def make_search(rng: np.random.Generator) -> Search:
    """Sequences change their slots at each position, and the first two have a common past, in the first one's slots."""
    inputs = rng.integers(1, VOCAB, (SENTENCES, 7)).astype(np.int32)
    inputs[0, 5:], inputs[1, 2:] = 0, 0
    sequences = rng.integers(1, VOCAB, (SENTENCES, BEAMS, LENGTH)).astype(np.int32)
    sequences[:, :, 0] = 0
    sequences[:, 1, :FORK] = sequences[:, 0, :FORK]
    slots = rng.permuted(np.broadcast_to(np.arange(BEAMS)[:, None], sequences.shape), axis=1)
    past = slots.copy()
    past[:, 1, :FORK] = past[:, 0, :FORK]
    return Search(inputs, sequences, slots, past)


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("model", VARIANTS, ids=["pre", "post", "temperature", "gated"])
def test_steps_are_the_forward_pass(framework: Framework, model: Transformer) -> None:
    one, rng = make(framework, model), np.random.default_rng(1)
    search = make_search(rng)
    # The forward pass puts the start token in front by itself, and never looks at what comes last.
    targets = np.roll(search.sequences, -1, axis=2).reshape(-1, LENGTH)
    targets[:, -1] = 1
    expected = one.logits(search.inputs.repeat(BEAMS, axis=0), targets).reshape(SENTENCES, BEAMS, LENGTH, VOCAB)
    cache = one.start(search.inputs)
    for position in range(LENGTH):
        # Where no sequence goes on, tokens and their past are arbitrary; so is all of a history after the position.
        tokens = rng.integers(1, VOCAB, (SENTENCES, BEAMS)).astype(np.int32)
        history = rng.integers(BEAMS, size=search.past.shape).astype(np.int32)
        history[:, :, position] = np.arange(BEAMS)
        going_on = [(b, j) for b in range(SENTENCES) for j in range(BEAMS) if j != 1 or position >= FORK]
        for b, j in going_on:
            slot = search.slots[b, j, position]
            tokens[b, slot] = search.sequences[b, j, position]
            history[b, slot, :position] = search.past[b, j, :position]
        logits, cache = one.step(tokens, position, history, cache)
        for b, j in going_on:
            found = np.asarray(logits)[b, search.slots[b, j, position]]
            np.testing.assert_allclose(found, expected[b, j, position], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("framework", BOTH)
def test_sentences_of_padding_are_harmless(framework: Framework) -> None:
    one, rng = make(framework, VARIANTS[0]), np.random.default_rng(1)
    inputs = make_search(rng).inputs
    tokens = np.zeros((SENTENCES, BEAMS), np.int32)
    history = np.zeros((SENTENCES, BEAMS, LENGTH), np.int32) + np.arange(BEAMS, dtype=np.int32)[:, None]
    before, _ = one.step(tokens, 0, history, one.start(inputs))
    inputs[1] = 0
    after, _ = one.step(tokens, 0, history, one.start(inputs))
    before, after = np.asarray(before), np.asarray(after)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.isfinite(after).all()


def test_frameworks_decode_alike() -> None:
    frameworks, rng = [make(framework, VARIANTS[0]) for framework in Framework], np.random.default_rng(1)
    jax, torch = frameworks
    torch.load(jax_to_torch(torch.config, jax.params))
    inputs = make_search(rng).inputs
    inputs[2] = 0
    caches = [one.start(inputs) for one in frameworks]
    for position in range(LENGTH):
        tokens = rng.integers(VOCAB, size=(SENTENCES, BEAMS)).astype(np.int32)
        history = rng.integers(BEAMS, size=(SENTENCES, BEAMS, LENGTH)).astype(np.int32)
        history[:, :, position] = np.arange(BEAMS)
        steps = [one.step(tokens, position, history, cache) for one, cache in zip(frameworks, caches, strict=True)]
        caches = [cache for _, cache in steps]
        np.testing.assert_allclose(*(np.asarray(logits) for logits, _ in steps), rtol=1e-5, atol=1e-5)
