"""The training batch sizes of the baselines, over all devices, for every workload at full scale.

They are chosen for the reference accelerators, of which the smaller ones are 8 NVIDIA V100 with 16 GB each; 4 and 8
devices divide them. Variants train with the size of their base.
"""

__all__ = ["BATCH_SIZES", "get_batch_size"]

BATCH_SIZES = {
    "criteo1tb": 262_144,
    "fastmri": 32,
    "finewebedu_lm": 64,
    "imagenet_resnet": 1024,
    "imagenet_vit": 1024,
    "librispeech_conformer": 256,
    "librispeech_deepspeech": 256,
    "ogbg": 512,
    "toy": 128,
    "wmt": 128,
}


def get_batch_size(workload_name: str) -> int:
    """The training batch size of a workload.

    Raises:
        ValueError: for any other name. For a variant the harness then asks for its base.
    """
    if workload_name not in BATCH_SIZES:
        raise ValueError(f"The baselines have no batch size for {workload_name!r}; add one to BATCH_SIZES.")
    return BATCH_SIZES[workload_name]
