"""AlgoPerf workload: magnetic resonance images from a quarter of their measurements (fastMRI) by a U-Net."""
