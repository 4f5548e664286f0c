"""Contrast and colour vision: what can be computed of the palette is computed."""

import itertools

import numpy as np
import pytest

from algoperf_scoring.report import colours

SCHEMES = pytest.mark.parametrize("scheme", [colours.LIGHT, colours.DARK], ids=["light", "dark"])
# Machado, Oliveira and Fernandes (2009), severity 1: how people see who lack one kind of cone.
VISION = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
# To and from cone responses, of the Oklab colour space (Ottosson, 2020).
CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
OKLAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def linear(colour):
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """As WCAG defines it."""
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def distance(one, other, vision):
    seen = [np.clip(np.array(vision) @ linear(colour), 0, 1) for colour in (one, other)]
    lab = [np.array(OKLAB) @ np.cbrt(np.array(CONES) @ colour) for colour in seen]
    return np.linalg.norm(lab[0] - lab[1])


def test_contrast_of_black_and_white():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@SCHEMES
def test_text_can_be_read(scheme):
    behind = ["surface", "panel", "none", *(f"heat-{index}" for index in range(colours.NUM_HEAT))]
    pairs = [("ink", name) for name in behind]
    pairs += [(name, back) for name in ("muted", "accent", "better", "worse") for back in ("surface", "panel")]
    pairs += [("warn", "warn-surface")]
    assert min(contrast(scheme[text], scheme[back]) for text, back in pairs) >= 4.5


@SCHEMES
def test_lines_can_be_seen(scheme):
    names = [*(f"series-{index}" for index in range(colours.NUM_SERIES)), "mark", "train"]
    assert min(contrast(scheme[name], scheme["surface"]) for name in names) >= 3


@SCHEMES
@pytest.mark.parametrize("vision", VISION.values(), ids=VISION)
def test_series_can_be_told_apart(scheme, vision):
    found = [scheme[f"series-{index}"] for index in range(colours.NUM_SERIES)]
    assert min(distance(one, other, vision) for one, other in itertools.combinations(found, 2)) > 0.095


@SCHEMES
def test_shades_go_one_way(scheme):
    found = [contrast(scheme[f"heat-{index}"], scheme["surface"]) for index in range(colours.NUM_HEAT)]
    assert found == sorted(found, reverse=True)


def test_both_schemes_have_all_colours():
    assert colours.LIGHT.keys() == colours.DARK.keys() == colours.SENTINELS.keys()
    assert len(set(colours.SENTINELS.values())) == len(colours.SENTINELS)


def test_sentinels_are_replaced():
    drawn = f"stroke:{colours.SENTINELS['ink']};fill:{colours.SENTINELS['series-3']};color:#fe0000"
    assert colours.for_page(drawn) == "stroke:var(--ink);fill:var(--series-3);color:#fe0000"
    assert colours.for_file(drawn) == f"stroke:{colours.LIGHT['ink']};fill:{colours.LIGHT['series-3']};color:#fe0000"
