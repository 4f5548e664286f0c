"""AlgoPerf: a benchmark of neural-network training algorithms (arXiv 2306.07179)."""
