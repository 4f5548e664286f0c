"""The command line of AlgoPerf. The only place with flags, environment variables and processes."""
