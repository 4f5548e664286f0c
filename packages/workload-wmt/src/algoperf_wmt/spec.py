"""The facts of WMT: a transformer that translates German to English.

Figures at full scale: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D). Model: Vaswani et al.,
https://arxiv.org/abs/1706.03762.
"""

from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, DatasetSpec, Framework, LossType, Scale, Target, WorkloadSpec

# Ids that a tokenizer has to have; 0 is also the padding.
PADDING, START, END = 0, 0, 2


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """How sentences are translated in evaluations.

    Attributes:
        num_beams: translations of a sentence that are pursued at a time.
        length_penalty: alpha of Wu et al. (https://arxiv.org/abs/1609.08144, equation 14); 0 favours short ones.
        sentences_at_once: how many a device translates at a time; bounds the memory that it takes.
    """

    num_beams: int = 4
    length_penalty: float = 0.6
    sentences_at_once: int = 32

    def __post_init__(self) -> None:
        if self.num_beams < 1 or self.sentences_at_once < 1 or self.length_penalty < 0:
            raise ValueError(f"Beam search needs a beam, a sentence at a time and no negative penalty: {self}.")


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """Choices of the transformer.

    Attributes:
        vocab_size: tokens; one embedding of them serves both inputs and the output.
        width: of a token.
        num_heads: of attention.
        mlp_dim: width inside a layer's MLP.
        num_layers: of the encoder, and as many of the decoder.
        max_length: positions that there are embeddings for, and the longest translation, in tokens.
        activation: inside MLPs.
        gated_mlp: whether an MLP multiplies its hidden layer by a linear function of its input (GLU variant).
        norm: whether layer norms come before a layer's branches ("pre") or after their additions ("post").
        attention_temperature: multiplies what queries are made from; more than 1 sharpens attention.
        beam_search: how evaluations translate.
    """

    vocab_size: int = 32_000
    width: int = 1_024
    num_heads: int = 16
    mlp_dim: int = 1_024
    num_layers: int = 6
    max_length: int = 256
    activation: Literal["relu", "tanh"] = "relu"
    gated_mlp: bool = False
    norm: Literal["pre", "post"] = "pre"
    attention_temperature: float = 1.0
    beam_search: BeamSearch = BeamSearch()

    def __post_init__(self) -> None:
        if self.width % self.num_heads or self.width % 2 or self.width < 4:
            raise ValueError(f"A width of {self.width} is below 4, odd or no multiple of {self.num_heads} heads.")
        if self.norm not in ("pre", "post") or self.activation not in ("relu", "tanh"):
            raise ValueError(
                f"norm is 'pre' or 'post', activation 'relu' or 'tanh', not {self.norm!r}, {self.activation!r}."
            )


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """What batches of sentences are like.

    Attributes:
        vocab_size: tokens that the tokenizer has.
        max_length: tokens in a row of a batch, on either side.
    """

    vocab_size: int = 32_000
    max_length: int = 256


def _target(validation: float, test: float) -> Target:
    return Target(metric="bleu", goal="max", validation=validation, test=test)


_FULL = WorkloadSpec(
    name="wmt",
    summary="Transformer that translates German to English (WMT 2017), scored by BLEU.",
    target=_target(30.8491, 30.7219),
    loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
    num_train_examples=5_906_184,
    num_eval_train_examples=3_072,
    num_validation_examples=3_000,
    num_test_examples=3_003,
    eval_batch_size=128,
    budgets={
        "v0.6": Budget(max_runtime_s=43_336, eval_period_s=840),
        "v1.0": Budget(max_runtime_s=16_114, eval_period_s=644),
    },
    step_hint=120_000,
    dropout_rate=0.1,
    dataset=DatasetSpec(
        name="wmt/full",
        prepare="algoperf_wmt.prepare:prepare_full",
        open="algoperf_wmt.data:open_dataset",
        finalize="algoperf_wmt.metrics:finalize",
        source="WMT 2017 German-English for training, newstest2013 for validation, newstest2014 for testing.",
        licence="research use (statmt.org)",
        options=Sentences(),
        recorded={"tokenizer_sha256": "tokenizer.model"},
    ),
    model=Transformer(),
    implementations={
        Framework.JAX: "algoperf_wmt.jax_workload:WmtJax",
        Framework.PYTORCH: "algoperf_wmt.torch_workload:WmtTorch",
    },
    output_layer={Framework.JAX: "shared_embedding", Framework.PYTORCH: "shared_embedding"},
)

_MINI = replace(
    _FULL,
    summary="A small transformer that translates short German texts of a user interface to English.",
    scale=Scale.MINI,
    target=_target(11, 10.5),
    num_train_examples=7_393,
    num_eval_train_examples=256,
    num_validation_examples=760,
    num_test_examples=704,
    eval_batch_size=128,
    batch_size=24,
    budgets={rules: Budget(max_runtime_s=180, eval_period_s=15) for rules in ("v0.6", "v1.0")},
    step_hint=1_000,
    dataset=replace(
        _FULL.dataset,
        name="wmt/mini",
        prepare="algoperf_wmt.mini:prepare_mini",
        source="Translations of the user interface of Home Assistant.",
        licence="Apache-2.0 (Home Assistant)",
        options=Sentences(vocab_size=2_000, max_length=48),
    ),
    model=Transformer(
        vocab_size=2_000,
        width=128,
        num_heads=4,
        mlp_dim=256,
        num_layers=2,
        max_length=48,
        beam_search=BeamSearch(sentences_at_once=128),
    ),
)

WMT = replace(_FULL, mini=_MINI)

# Only at mini scale: what a suite trains on is `WMT` at that scale, which needs no Debian.
WMT_DEBIAN = replace(
    _MINI,
    name="wmt_debian",
    summary="The small transformer on prose: descriptions of Debian's packages. Needs apt.",
    target=_target(5, 5),
    num_train_examples=29_000,
    num_validation_examples=1_200,
    num_test_examples=1_200,
    step_hint=2_000,
    dataset=replace(
        _MINI.dataset,
        name="wmt_debian/mini",
        prepare="algoperf_wmt.debian:prepare_debian",
        source="Descriptions of Debian's packages and their translations.",
        licence="those of the packages: for use, not for passing on",
        options=Sentences(vocab_size=4_000, max_length=96),
    ),
    model=replace(_MINI.model, vocab_size=4_000, max_length=96),
)

WMT_POST_LN = WMT.variant(
    "post_ln",
    summary="WMT with layer norms after the additions.",
    target=_target(30.0779, 29.8982),
    mini_target=_target(9.5, 8.8),
    norm="post",
)

WMT_ATTENTION_TEMP = WMT.variant(
    "attention_temp",
    summary="WMT with attention sharpened by a temperature.",
    target=_target(29.3379, 29.4143),
    mini_target=_target(7.5, 6.5),
    attention_temperature=4.0,
)

WMT_GLU_TANH = WMT.variant(
    "glu_tanh",
    summary="WMT with gated MLPs and tanh in place of ReLU.",
    target=_target(29.5779, 29.0515),
    mini_target=_target(14, 13),
    activation="tanh",
    gated_mlp=True,
)
