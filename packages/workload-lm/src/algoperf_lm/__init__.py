"""AlgoPerf workload `finewebedu_lm`: a language model on FineWeb-Edu."""
