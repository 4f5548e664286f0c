"""What packages test themselves with: the conformance kit, and a toy workload for tests of the harness."""
