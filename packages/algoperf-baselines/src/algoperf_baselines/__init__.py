"""Baseline training algorithms in the public submission API: examples to start from."""

from algoperf.spec import SubmissionSpec

__all__ = ["ADAMW", "NADAMW", "SAM", "SHAMPOO"]

ADAMW = SubmissionSpec(
    name="adamw",
    summary="AdamW with linear warm-up and cosine decay",
    package="algoperf_baselines.adamw",
)

NADAMW = SubmissionSpec(
    name="nadamw",
    summary="AdamW with Nesterov momentum, linear warm-up and cosine decay",
    package="algoperf_baselines.nadamw",
)

SAM = SubmissionSpec(
    name="sam",
    summary="sharpness-aware minimization around NAdamW, linear warm-up and cosine decay",
    package="algoperf_baselines.sam",
)

SHAMPOO = SubmissionSpec(
    name="shampoo",
    summary="Distributed Shampoo grafted onto NAdamW, linear warm-up and cosine decay",
    package="algoperf_baselines.shampoo",
)
