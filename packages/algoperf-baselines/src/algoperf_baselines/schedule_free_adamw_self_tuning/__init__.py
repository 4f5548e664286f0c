"""Schedule-free AdamW with hyperparameters that need no tuning.

At full scale they are about those of the benchmark's public self-tuning submission.
"""

from algoperf.spec import Scale

HYPERPARAMETERS = {
    Scale.FULL: {
        "learning_rate": 2.5e-3,
        "one_minus_beta1": 0.1,
        "beta2": 0.9955,
        "warmup_factor": 0.02,
        "weight_decay": 0.081,
        "dropout_rate": 0.1,
    },
    Scale.MINI: {
        "learning_rate": 5e-3,
        "one_minus_beta1": 0.1,
        "beta2": 0.99,
        "warmup_factor": 0.05,
        "weight_decay": 0.1,
    },
}
