"""AlgoPerf's OGBG workload: a graph network that predicts the biological activities of molecules."""
