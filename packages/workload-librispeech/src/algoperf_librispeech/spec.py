"""The facts of LibriSpeech: a Conformer and a DeepSpeech that write down what is said.

Figures at full scale: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D).
"""

from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, DatasetSpec, Framework, LossType, Scale, Target, WorkloadSpec

# Ids that a tokenizer has to have. What CTC calls blank is the padding of targets, and the tokenizer's unknown token.
BLANK, END = 0, 2
SAMPLE_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """What training hides of a log-mel spectrogram: Park et al., https://arxiv.org/abs/1904.08779.

    Attributes:
        num_time_masks: runs of frames that are hidden.
        max_time_share: of the frames of an utterance, the most that one of them hides.
        num_frequency_masks: runs of mel bins that are hidden.
        max_frequency_bins: one of them hides fewer than this.
    """

    num_time_masks: int = 10
    max_time_share: float = 0.05
    num_frequency_masks: int = 2
    max_frequency_bins: int = 27


@dataclass(frozen=True, kw_only=True)
class Acoustic:
    """What both models have in common.

    Attributes:
        vocab_size: tokens, the blank of CTC among them.
        width: of a frame inside the model.
        subsampling_channels: of the two convolutions that leave a quarter of the frames.
        statistics_momentum: share of batch norm's running statistics that a training step keeps.
        spec_augment: what training hides.
    """

    vocab_size: int = 1_024
    width: int = 512
    subsampling_channels: int = 512
    statistics_momentum: float = 0.999
    spec_augment: SpecAugment = SpecAugment()


@dataclass(frozen=True, kw_only=True)
class Conformer(Acoustic):
    """Choices of the Conformer: Gulati et al., https://arxiv.org/abs/2005.08100.

    Attributes:
        num_blocks: of feed-forward module, attention, convolution, and feed-forward module.
        num_heads: of attention.
        mlp_dim: width inside feed-forward modules.
        kernel_size: of the depthwise convolution, in frames; odd.
        activation: inside feed-forward and convolution modules.
        attention_temperature: multiplies what attention gives, before its output projection.
        block_norm: whether a block ends with a layer norm.
    """

    num_blocks: int = 4
    num_heads: int = 8
    mlp_dim: int = 2_048
    kernel_size: int = 5
    activation: Literal["silu", "gelu"] = "silu"
    attention_temperature: float = 1.0
    block_norm: bool = True

    def __post_init__(self) -> None:
        if self.width % self.num_heads or self.width % 2 or self.width < 4:
            raise ValueError(f"A width of {self.width} is below 4, odd or no multiple of {self.num_heads} heads.")
        if self.kernel_size % 2 == 0 or self.activation not in ("silu", "gelu"):
            raise ValueError(
                f"A kernel is of odd size and the activation 'silu' or 'gelu', not {self.kernel_size} and "
                f"{self.activation!r}."
            )


@dataclass(frozen=True, kw_only=True)
class DeepSpeech(Acoustic):
    """Choices of DeepSpeech: Amodei et al., https://arxiv.org/abs/1512.02595.

    Attributes:
        num_lstm_layers: bidirectional ones; a direction has half the width.
        num_mlp_layers: layers behind them.
        activation: of the convolutions and of the layers behind the LSTMs.
        residual: whether a layer's input is added to its output.
        norm: what comes before each layer: "batch" norm, with a layer norm before the output; or "layer" norm, without.
    """

    num_lstm_layers: int = 6
    num_mlp_layers: int = 3
    activation: Literal["relu", "tanh"] = "relu"
    residual: bool = True
    norm: Literal["batch", "layer"] = "batch"

    def __post_init__(self) -> None:
        if self.width % 2:
            raise ValueError(f"A width of {self.width} cannot be shared by two directions.")
        if self.activation not in ("relu", "tanh") or self.norm not in ("batch", "layer"):
            raise ValueError(
                f"activation is 'relu' or 'tanh', norm 'batch' or 'layer', not {self.activation!r}, {self.norm!r}."
            )


@dataclass(frozen=True, kw_only=True)
class Utterances:
    """What batches of utterances are like.

    Attributes:
        vocab_size: tokens that the tokenizer has.
        max_samples: of audio in a row of a batch, at `SAMPLE_RATE`.
        max_tokens: of a transcript in a row of a batch, its end included.
    """

    vocab_size: int = 1_024
    max_samples: int = 320_000
    max_tokens: int = 256


def _target(validation: float, test: float) -> Target:
    return Target(metric="wer", goal="min", validation=validation, test=test)


def _mini_target(validation: float, test: float) -> Target:
    """In terms of the plain word error rate; `metrics.py` says what `wer` is."""
    return Target(metric="word_error_rate", goal="min", validation=validation, test=test)


def _budgets(v0_6: int, v1_0: int) -> dict[str, Budget]:
    return {
        "v0.6": Budget(max_runtime_s=v0_6, eval_period_s=1_440),
        "v1.0": Budget(max_runtime_s=v1_0, eval_period_s=v1_0 // 25),
    }


_FULL = WorkloadSpec(
    name="librispeech_conformer",
    summary="Conformer that writes down read books (LibriSpeech), scored by its word error rate.",
    target=_target(0.085884, 0.052981),
    loss_type=LossType.CTC_LOSS,
    num_train_examples=263_840,
    num_eval_train_examples=5_376,
    num_validation_examples=5_348,
    num_test_examples=2_472,
    eval_batch_size=256,
    budgets=_budgets(58_015, 43_680),
    step_hint=76_000,
    dropout_rate=0.1,
    dataset=DatasetSpec(
        name="librispeech/full",
        prepare="algoperf_librispeech.prepare:prepare_full",
        open="algoperf_librispeech.data:open_dataset",
        finalize="algoperf_librispeech.metrics:finalize",
        pictures="algoperf_librispeech.pictures:pictures",
        source="LibriSpeech: the three training sets, both development sets for validation, test-clean for testing.",
        licence="CC BY 4.0",
        options=Utterances(),
        on_device={
            Framework.JAX: "algoperf_librispeech.jax_audio:finish",
            Framework.PYTORCH: "algoperf_librispeech.torch_audio:finish",
        },
        recorded={"tokenizer_sha256": "tokenizer.model"},
    ),
    model=Conformer(),
    implementations={
        Framework.JAX: "algoperf_librispeech.jax_workload:ConformerJax",
        Framework.PYTORCH: "algoperf_librispeech.torch_workload:ConformerTorch",
    },
    output_layer={Framework.JAX: "output", Framework.PYTORCH: "output"},
)

_MINI = replace(
    _FULL,
    summary="A small Conformer that writes down short sentences of a synthetic voice.",
    scale=Scale.MINI,
    target=_mini_target(0.22, 0.22),
    num_train_examples=4_000,
    num_eval_train_examples=256,
    num_validation_examples=700,
    num_test_examples=700,
    eval_batch_size=100,
    batch_size=32,
    budgets={rules: Budget(max_runtime_s=180, eval_period_s=15) for rules in ("v0.6", "v1.0")},
    step_hint=400,
    dropout_rate=0.0,
    dataset=replace(
        _FULL.dataset,
        name="librispeech/mini",
        prepare="algoperf_librispeech.mini:prepare_mini",
        source="Sentences spoken by eSpeak NG: synthetic speech.",
        licence="the data are our own; eSpeak NG itself is under the GPL 3",
        options=Utterances(vocab_size=27, max_samples=32_000, max_tokens=32),
    ),
    model=Conformer(
        vocab_size=27,
        width=96,
        subsampling_channels=32,
        statistics_momentum=0.95,
        spec_augment=SpecAugment(num_time_masks=2, num_frequency_masks=1, max_frequency_bins=15),
        num_blocks=3,
        num_heads=4,
        mlp_dim=384,
        kernel_size=15,
    ),
)

CONFORMER = replace(_FULL, mini=_MINI)

CONFORMER_ATTENTION_TEMPERATURE = CONFORMER.variant(
    "attention_temperature",
    summary="Conformer whose attention gives 1.6 times as much.",
    target=_target(0.109977, 0.068065),
    mini_target=_mini_target(0.37, 0.38),
    attention_temperature=1.6,
)

CONFORMER_LAYERNORM = CONFORMER.variant(
    "layernorm",
    summary="Conformer without the layer norms at the ends of blocks.",
    target=_target(0.09731, 0.05996),
    mini_target=_mini_target(0.22, 0.22),
    block_norm=False,
)

CONFORMER_GELU = CONFORMER.variant(
    "gelu",
    summary="Conformer with GELU in place of SiLU.",
    target=_target(0.094114, 0.056629),
    mini_target=_mini_target(0.22, 0.22),
    activation="gelu",
)

_DEEPSPEECH_IMPLEMENTATIONS = {
    Framework.JAX: "algoperf_librispeech.jax_workload:DeepSpeechJax",
    Framework.PYTORCH: "algoperf_librispeech.torch_workload:DeepSpeechTorch",
}

_DEEPSPEECH_MINI = replace(
    _MINI,
    name="librispeech_deepspeech",
    summary="Small bidirectional LSTMs that write down short sentences of a synthetic voice.",
    target=_mini_target(0.2, 0.2),
    step_hint=240,
    model=DeepSpeech(
        vocab_size=27,
        width=192,
        subsampling_channels=32,
        statistics_momentum=0.95,
        spec_augment=_MINI.model.spec_augment,
        num_lstm_layers=2,
        num_mlp_layers=1,
    ),
    implementations=_DEEPSPEECH_IMPLEMENTATIONS,
)

DEEPSPEECH = replace(
    _FULL,
    name="librispeech_deepspeech",
    summary="DeepSpeech, bidirectional LSTMs, on read books (LibriSpeech), scored by its word error rate.",
    target=_target(0.119936, 0.074143),
    budgets=_budgets(44_405, 36_949),
    step_hint=38_400,
    model=DeepSpeech(),
    implementations=_DEEPSPEECH_IMPLEMENTATIONS,
    mini=_DEEPSPEECH_MINI,
)

# Only at mini scale: what a suite trains on are the two above, which need no Debian.
DEBIAN = replace(
    _DEEPSPEECH_MINI,
    name="librispeech_debian",
    summary="The small LSTMs on a person's voice: prompts of a telephone exchange. Needs apt.",
    target=_mini_target(0.92, 0.95),
    num_train_examples=2_507,
    num_eval_train_examples=100,
    num_validation_examples=81,
    num_test_examples=87,
    step_hint=900,
    dataset=replace(
        _MINI.dataset,
        name="librispeech_debian/mini",
        prepare="algoperf_librispeech.debian:prepare_debian",
        source="Prompts of Asterisk that Debian has, and what they say in synthetic voices.",
        licence="CC BY-SA 3.0",
        options=Utterances(vocab_size=31, max_samples=64_000, max_tokens=80),
    ),
    model=replace(_DEEPSPEECH_MINI.model, vocab_size=31),
)

DEEPSPEECH_TANH = DEEPSPEECH.variant(
    "tanh",
    summary="DeepSpeech with tanh in place of ReLU.",
    target=_target(0.150883, 0.098613),
    mini_target=_mini_target(0.25, 0.25),
    activation="tanh",
)

DEEPSPEECH_NO_RESNET = DEEPSPEECH.variant(
    "no_resnet",
    summary="DeepSpeech without residual connections.",
    target=_target(0.131564, 0.079297),
    mini_target=_mini_target(0.2, 0.2),
    residual=False,
)

_MORE_SPEC_AUGMENT = SpecAugment(num_time_masks=15, num_frequency_masks=4)

DEEPSPEECH_NORM_AND_SPEC_AUG = replace(
    DEEPSPEECH.variant(
        "norm_and_spec_aug",
        summary="DeepSpeech with layer norm in place of batch norm, and more of SpecAugment.",
        target=_target(0.14342, 0.090976),
        mini_target=_mini_target(0.37, 0.37),
        mini_model={
            "norm": "layer",
            "spec_augment": replace(_MINI.model.spec_augment, num_time_masks=3, num_frequency_masks=2),
        },
        norm="layer",
        spec_augment=_MORE_SPEC_AUGMENT,
    ),
    eval_batch_size=128,
)
