"""LibriSpeech in PyTorch: the models as submissions call them, the loss, and what evaluations need of a batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from algoperf.backends.pytorch import TorchWorkload
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_librispeech.log_mel import FRAME_SIZE
from algoperf_librispeech.spec import BLANK
from algoperf_librispeech.torch_conformer import ConformerModel
from algoperf_librispeech.torch_ctc import Padded, ctc_losses
from algoperf_librispeech.torch_deepspeech import DeepSpeechModel
from algoperf_librispeech.torch_layers import Dense, LayerNorm, MaskedBatchNorm, batch_norm_mode


class SpeechTorch(TorchWorkload):
    """What the workloads have in common: all but the model."""

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer."""
        if isinstance(module, Dense):
            return module.kinds[name]
        if isinstance(module, LayerNorm):
            return ParameterType.LAYER_NORM_SCALE if name == "scale" else ParameterType.LAYER_NORM_BIAS
        if isinstance(module, MaskedBatchNorm):
            return ParameterType.BATCH_NORM_SCALE if name == "scale" else ParameterType.BATCH_NORM_BIAS
        if name.startswith("bias"):
            return ParameterType.BIAS
        is_convolution = isinstance(module, nn.Conv1d | nn.Conv2d)
        return ParameterType.CONV_WEIGHT if is_convolution else ParameterType.WEIGHT

    def model_fn(
        self,
        params: nn.Module,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | None = None,
        use_running_average_bn: bool | None = None,
    ) -> tuple[Padded, ModelAuxiliaryState]:
        """Logits and their paddings, and None, because running statistics are in `params`.

        Args:
            params: the model.
            augmented_and_preprocessed_input_batch: its `inputs` are audio, float32 [B, N] with the magnitudes of 16-bit
                integers, and its paddings, float32 [B, N], 1 where there is no audio.
            model_state: None.
            mode: TRAIN hides parts of what is heard, drops out, and normalises with the statistics of this batch; EVAL
                with the running ones.
            rng: unused; randomness is torch's.
            update_batch_norm: whether the running statistics move.
            dropout_rate: None means the workload's.
            use_running_average_bn: whether the running statistics normalise and stay; None leaves it to the mode.

        Returns:
            Logits [B, T, vocab_size], zero at padded frames, and paddings [B, T], both float32; T is a quarter of the
            front end's frames, rounded up. And None.

        Raises:
            ValueError: the inputs are no audio of a frame at least, there is a model state, or statistics are to be
                updated in EVAL mode.
        """
        del rng
        audio, paddings = augmented_and_preprocessed_input_batch["inputs"]
        if model_state is not None:
            raise ValueError(f"{self.spec.name} has its statistics in the model; pass None as model_state.")
        if audio.ndim != 2 or audio.shape != paddings.shape or audio.shape[1] < FRAME_SIZE:
            raise ValueError(
                f"{self.spec.name} needs audio and paddings of the same shape [B, at least {FRAME_SIZE}], not "
                f"{tuple(audio.shape)} and {tuple(paddings.shape)}."
            )
        is_training = mode is ForwardPassMode.TRAIN
        if update_batch_norm and not is_training:
            raise ValueError("Batch-norm statistics are not updated in EVAL mode; pass update_batch_norm=False.")
        self.set_mode(params, mode)
        uses_running = not is_training if use_running_average_bn is None else use_running_average_bn
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        with batch_norm_mode(params, uses_running, update_batch_norm):
            return params(audio, paddings, rate), None

    def loss_fn(
        self,
        label_batch: Padded,
        logits_batch: Padded,
        mask_batch: Tensor | None = None,
        label_smoothing: float = 0.0,
        **unused: Any,
    ) -> dict[str, Tensor]:
        """The CTC loss of each transcript; of one that does not fit into the frames it is 0, and its tokens count not.

        Args:
            label_batch: tokens [B, L], integers, and their paddings [B, L].
            logits_batch: [B, T, V], and their paddings [B, T].
            mask_batch: [B], multiplies losses and numbers of tokens; None means that all examples count.
            label_smoothing: ignored: there are no probabilities of labels.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed`, a scalar; `n_valid_examples`, a scalar: the number of tokens, and at least 1; `per_example` [B].

        Raises:
            ValueError: labels, logits and mask do not fit together.
        """
        losses, tokens = self._losses(label_batch, logits_batch, mask_batch)
        return {"summed": losses.sum(), "n_valid_examples": tokens.sum().clamp(min=1), "per_example": losses}

    def _losses(self, labels: Padded, logits: Padded, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        shapes = [tuple(array.shape) for array in (*labels, *logits)]
        sizes = {shape[:1] for shape in shapes} | ({tuple(mask.shape)} if mask is not None else set())
        fits = shapes[0] == shapes[1] and shapes[2][:-1] == shapes[3] and len(shapes[0]) == len(shapes[3]) == 2
        if not fits or len(sizes) != 1:
            raise ValueError(
                "Labels and paddings [B, L], logits [B, T, V] and paddings [B, T], and a mask [B] are needed; they "
                f"have the shapes {shapes} and {None if mask is None else tuple(mask.shape)}."
            )
        return ctc_losses(labels, logits, mask)

    def eval_step(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """What there is to say of each utterance of a batch.

        Returns:
            `losses` and `tokens`, float32 [B]: as `loss_fn` counts them; `predictions`, int32 [B, T]: the best token of
            each frame, BLANK where it is padded; `targets`, int32 [B, L]; `weights`, float32 [B].
        """
        (logits, paddings), _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, False)
        losses, tokens = self._losses(batch["targets"], (logits, paddings), batch["weights"])
        return {
            "losses": losses,
            "tokens": tokens,
            "predictions": torch.where(paddings == 0, logits.argmax(dim=-1), BLANK).int(),
            "targets": batch["targets"][0],
            "weights": batch["weights"],
        }


class ConformerTorch(SpeechTorch):
    """The Conformer and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters and running statistics."""
        return ConformerModel(self.spec.model)


class DeepSpeechTorch(SpeechTorch):
    """DeepSpeech and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters and running statistics."""
        return DeepSpeechModel(self.spec.model)
