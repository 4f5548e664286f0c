"""AlgoPerf workload: German to English translation (WMT) by a transformer."""
