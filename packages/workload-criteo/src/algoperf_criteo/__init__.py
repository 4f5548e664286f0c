"""AlgoPerf workload: click prediction (Criteo 1TB) by a deep learning recommendation model."""
