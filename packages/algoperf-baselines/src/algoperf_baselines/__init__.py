"""Baseline training algorithms in the public submission API: examples to start from."""

from algoperf.spec import SubmissionSpec

__all__ = [
    "ADAFACTOR",
    "ADAMW",
    "ADEMAMIX",
    "LAMB",
    "LION",
    "MOMENTUM",
    "MUON",
    "NADAMW",
    "NADAMW_SELF_TUNING",
    "NESTEROV",
    "SAM",
    "SCHEDULE_FREE_ADAMW",
    "SCHEDULE_FREE_ADAMW_SELF_TUNING",
    "SHAMPOO",
]

ADAFACTOR = SubmissionSpec(
    name="adafactor",
    summary="Adafactor with momentum, linear warm-up and cosine decay",
    package="algoperf_baselines.adafactor",
)

ADAMW = SubmissionSpec(
    name="adamw",
    summary="AdamW with linear warm-up and cosine decay",
    package="algoperf_baselines.adamw",
)

ADEMAMIX = SubmissionSpec(
    name="ademamix",
    summary="AdEMAMix: AdamW with a second, slow momentum, linear warm-up and cosine decay",
    package="algoperf_baselines.ademamix",
)

LAMB = SubmissionSpec(
    name="lamb",
    summary="LAMB: AdamW with steps in proportion to the norm of each array, linear warm-up and cosine decay",
    package="algoperf_baselines.lamb",
)

LION = SubmissionSpec(
    name="lion",
    summary="Lion: steps along the sign of the momentum, linear warm-up and cosine decay",
    package="algoperf_baselines.lion",
)

MOMENTUM = SubmissionSpec(
    name="momentum",
    summary="SGD with momentum (heavy ball), linear warm-up and linear decay",
    package="algoperf_baselines.momentum",
)

MUON = SubmissionSpec(
    name="muon",
    summary="Muon: orthogonal updates of matrices, NAdamW for the rest, linear warm-up and cosine decay",
    package="algoperf_baselines.muon",
)

NADAMW = SubmissionSpec(
    name="nadamw",
    summary="AdamW with Nesterov momentum, linear warm-up and cosine decay",
    package="algoperf_baselines.nadamw",
)

NADAMW_SELF_TUNING = SubmissionSpec(
    name="nadamw_self_tuning",
    summary="NAdamW with fixed hyperparameters, for self-tuning",
    package="algoperf_baselines.nadamw_self_tuning",
)

NESTEROV = SubmissionSpec(
    name="nesterov",
    summary="SGD with Nesterov momentum, linear warm-up and linear decay",
    package="algoperf_baselines.nesterov",
)

SAM = SubmissionSpec(
    name="sam",
    summary="sharpness-aware minimization around NAdamW, linear warm-up and cosine decay",
    package="algoperf_baselines.sam",
)

SCHEDULE_FREE_ADAMW = SubmissionSpec(
    name="schedule_free_adamw",
    summary="schedule-free AdamW: linear warm-up, then a constant rate; its average is evaluated",
    package="algoperf_baselines.schedule_free_adamw",
)

SCHEDULE_FREE_ADAMW_SELF_TUNING = SubmissionSpec(
    name="schedule_free_adamw_self_tuning",
    summary="schedule-free AdamW with fixed hyperparameters, for self-tuning",
    package="algoperf_baselines.schedule_free_adamw_self_tuning",
)

SHAMPOO = SubmissionSpec(
    name="shampoo",
    summary="Distributed Shampoo grafted onto NAdamW, linear warm-up and cosine decay",
    package="algoperf_baselines.shampoo",
)
