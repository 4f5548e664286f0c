"""Mini metrics of workloads on this process's devices, after some training: `run_workloads.py FRAMEWORK DATA`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from algoperf import registry, search, submission
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale, Split

# DeepSpeech is evaluated by what evaluates the Conformer; that steps of both do not depend on devices, their package
# tests. OGBG packs other graphs into a batch where there are more devices, so its training is another there.
STEPS = {
    "criteo1tb": 3,
    "fastmri": 3,
    "finewebedu_lm": 3,
    "ogbg": 0,
    "imagenet_resnet": 3,
    "imagenet_vit": 3,
    "librispeech_conformer": 3,
    "wmt": 3,
}


def train(workload, steps):
    """A few steps of NAdamW without dropout, from a fixed start. Parameters and model state."""
    algorithm = submission.load(submission.locate("nadamw", workload.framework))
    point = {"learning_rate": 1e-3, "one_minus_beta1": 0.1, "beta2": 0.99, "warmup_factor": 0.05, "weight_decay": 0.01}
    hyperparameters = search.as_hyperparameters(point | {"label_smoothing": 0.0, "dropout_rate": 0.0})
    params, model_state = workload.init_model_fn(random_key(0))
    state = algorithm.init_optimizer_state(workload, params, model_state, hyperparameters, random_key(1))
    state, params, model_state = (workload.backend.place_state(tree) for tree in (state, params, model_state))
    with workload.input_queue(Split.TRAIN, workload.spec.batch_size) as queue:
        for step in range(steps):
            state, params, model_state = algorithm.update_params(
                workload=workload,
                current_param_container=params,
                current_params_types=workload.model_params_types,
                model_state=model_state,
                hyperparameters=hyperparameters,
                batch=next(queue),
                loss_type=workload.loss_type,
                optimizer_state=state,
                eval_results=[],
                global_step=step,
                rng=random_key(2, step),
            )
    return params, model_state


def without_masks(spec):
    """Without SpecAugment, which PyTorch draws for each device's part of a batch, as it draws dropout."""
    if spec.name != "librispeech_conformer":
        return spec
    shown = replace(spec.model.spec_augment, num_time_masks=0, num_frequency_masks=0)
    return replace(spec, model=replace(spec.model, spec_augment=shown))


def main() -> None:
    for name, steps in STEPS.items():
        spec = without_masks(registry.workload_spec(name).at(Scale.MINI))
        workload = registry.make_workload(spec, Framework(sys.argv[1]), Path(sys.argv[2]))
        # `finalize` refuses a split of which it has not seen every example once.
        metrics = workload.evaluate(*train(workload, steps), random_key(1), [Split.VALIDATION])
        if workload.backend.rank == 0:
            print("RESULT " + json.dumps({name: metrics}), flush=True)


if __name__ == "__main__":
    main()
