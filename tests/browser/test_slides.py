"""Map and heat map as PNG files, made by matplotlib: `make browser` installs it."""

import io

import numpy as np
import pytest
from fakes.commands import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(commands, tmp_path_factory):
    """The quickstart's run."""
    pytest.importorskip(
        "matplotlib", reason="NOT TESTED: no matplotlib; `make browser` installs it"
    )
    out = tmp_path_factory.mktemp("slides") / "run"
    assert commands.run("run", "jobs/quickstart.toml", "--out", out, cwd=ROOT).code == 0
    return out


def made(commands, run, *words):
    """Both files, as bytes."""
    ended = commands.run("report", run, "--format", "png", *words, cwd=run.parent)
    assert ended.code == 0, ended
    return [(run / name).read_bytes() for name in ("map.png", "heatmap.png")]


@pytest.mark.parametrize("colour", ["cluster", "topic", "date"])
def test_slides_are_drawn_and_the_same_again(commands, run, colour):
    """1920 x 1080, with more than a few colours, byte for byte the same from the same run."""
    from matplotlib.image import imread

    first = made(commands, run, "--colour", colour)
    for raw in first:
        pixels = imread(io.BytesIO(raw), format="png")
        assert pixels.shape[:2] == (1080, 1920)
        assert len(np.unique((pixels * 255).astype(np.uint8).reshape(-1, 4), axis=0)) > 50
    assert made(commands, run, "--colour", colour) == first


def test_another_colour_is_another_map_and_the_same_heat_map(commands, run):
    """Colours are the map's alone."""
    by_topic, by_date = (made(commands, run, "--colour", name) for name in ("topic", "date"))
    assert by_topic[0] != by_date[0]
    assert by_topic[1] == by_date[1]
