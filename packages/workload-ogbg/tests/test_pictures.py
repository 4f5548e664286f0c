"""Molecules to look at."""

import numpy as np

from algoperf_ogbg.features import MAX_ATOMIC_NUM, MAX_CHARGE
from algoperf_ogbg.pictures import drawn


def picture(*elements):
    """Of atoms in a row, by their numbers."""
    nodes = np.zeros((len(elements), 9), np.int64)
    nodes[:, 0], nodes[:, 3] = np.array(elements) - 1, MAX_CHARGE
    ends = np.array([(i, i + 1) for i in range(len(elements) - 1)]).reshape(-1, 2)
    return drawn(nodes, ends, np.zeros((len(ends), 3), np.int64))


def test_other_elements_and_bonds_are_another_picture():
    pictures = [picture(6, 6), picture(6, 8), picture(6, 6, 6)]
    assert all(one.shape == (280, 280, 3) and one.dtype == np.uint8 for one in pictures)
    assert len({one.tobytes() for one in pictures}) == 3


def test_an_element_that_has_no_class_of_its_own_is_drawn():
    assert picture(6, MAX_ATOMIC_NUM + 1).min() < 255
