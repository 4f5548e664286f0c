import pytest
from mini_training import check_that_nadamw_reaches_the_target, workloads

from algoperf.spec import Framework


@pytest.mark.parametrize("workload", workloads(Framework.PYTORCH))
@pytest.mark.timeout(900)
def test_nadamw_reaches_the_target(workload, data_dir, tmp_path):
    check_that_nadamw_reaches_the_target(workload, Framework.PYTORCH, data_dir, tmp_path)
