"""Pictures of H: the bars, pixels, words and cells are the numbers that were given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from nmfnet.errors import UserError
from nmfnet.plots import mosaic, spectra
from nmfnet.plots.arrays import component_shares, specific_features
from nmfnet.plots.components import components

SBS = spectra.LAYOUTS["sbs96"]


def axes_of(figure: Figure, label: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == label)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def bar_ends(axes: Axes, direction: int = 1) -> np.ndarray:
    """Largest coordinate of every bar along x (0) or y (1)."""
    (bars,) = [item for item in axes.collections if isinstance(item, PolyCollection)]
    return np.array([path.vertices[:, direction].max() for path in bars.get_paths()])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("kind", "count"), [("sbs96", 96), ("dbs78", 78), ("id83", 83)])
def test_layouts_are_complete(kind: str, count: int) -> None:
    layout = spectra.LAYOUTS[kind]
    assert len(layout.keys) == len(set(layout.keys)) == len(layout.ticks) == count
    assert len(layout.colours) == count
    assert not layout.above or sum(channels for channels, _ in layout.above) == count


def test_channel_spellings_mean_the_same() -> None:
    for name in ("T[C>A]G", "C>A TCG", "C>A,TCG", "C>A:TCG", " C>ATCG"):
        assert spectra.channel_key(name) == "T[C>A]G"
    assert spectra.channel_key("AC CA") == spectra.channel_key("AC>CA") == "AC>CA"
    assert spectra.channel_key("DEL_C_1_5+") == spectra.channel_key("1:Del:C:5") == "1:Del:C:5"
    assert spectra.channel_key("DEL repeats 5+ 0") == "5:Del:R:0"
    assert spectra.channel_key("DEL:MH:2:1") == "2:Del:M:1"
    assert spectra.channel_key("C>A TTG") == "C>A TTG"  # the middle base contradicts the change


def test_signature_bars_sum_to_100_percent_and_stand_in_the_order_of_the_field(
    rng: np.random.Generator,
) -> None:
    H = rng.gamma(0.3, 5.0, (3, 96))
    shuffled = rng.permutation(96)
    names = [SBS.keys[column] for column in shuffled]
    ordered = components(H, SBS.keys, "sbs96")
    mixed = components(H[:, shuffled], names, "sbs96")
    for row in range(3):
        bars = bar_ends(axes_of(ordered, f"C{row + 1}"))
        assert bars.sum() == pytest.approx(100)
        np.testing.assert_allclose(bars, 100 * H[row] / H[row].sum())
        np.testing.assert_allclose(bar_ends(axes_of(mixed, f"C{row + 1}")), bars)


def test_signature_figure_has_header_colours_and_channel_labels(rng: np.random.Generator) -> None:
    H = rng.random((2, 96))
    figure = components(H, SBS.keys, "sbs96", names=["SBS1", "SBS5"], W=np.ones((4, 2)))
    assert {"C>A", "C>G", "C>T", "T>A", "T>C", "T>G"} <= set(texts(figure))
    first, last = axes_of(figure, "SBS1"), axes_of(figure, "SBS5")
    assert not first.get_xticklabels()
    assert [label.get_text() for label in last.get_xticklabels()][:3] == ["ACA", "ACC", "ACG"]
    assert min(label.get_fontsize() for label in last.get_xticklabels()) >= 7
    (bars,) = first.collections
    colours = [to_hex(colour) for colour in bars.get_facecolors()]
    assert colours[0] == "#03bdef"
    assert colours[16] == "#010101"
    assert colours[32] == "#e42926"
    assert len(set(colours)) == 6
    share = H[0].sum() / H.sum()
    assert f"SBS1  {share:.1%} of mutations" in texts(figure)


def test_missing_channels_are_zero() -> None:
    figure = components(np.ones((1, 95)), SBS.keys[1:], "sbs96")
    bars = bar_ends(axes_of(figure, "C1"))
    assert bars[0] == 0
    assert bars[1:].sum() == pytest.approx(100)


@pytest.mark.parametrize("kind", ["dbs78", "id83", "sbs96"])
def test_channels_are_recognised_by_their_names(kind: str) -> None:
    layout = spectra.LAYOUTS[kind]
    figure = components(np.ones((1, len(layout.keys))), layout.keys, "generic")
    assert any(text.startswith(kind.upper()) for text in texts(figure))


def test_wrong_or_repeated_channels_are_refused() -> None:
    names = list(SBS.keys)
    with pytest.raises(UserError, match="'gene' is not a channel of sbs96"):
        components(np.ones((1, 96)), [*names[:95], "gene"], "sbs96")
    with pytest.raises(UserError, match="occurs twice"):
        components(np.ones((1, 96)), [*names[:95], names[0]], "sbs96")
    with pytest.raises(UserError, match="0 channel names"):
        components(np.ones((1, 96)), None, "sbs96")


def test_mosaic_holds_each_component_at_its_place_the_right_way_up(
    rng: np.random.Generator,
) -> None:
    H = rng.random((7, 6))
    figure = components(H, kind="image", image_shape=(3, 2))
    axes = axes_of(figure, "components")
    (image,) = axes.images
    assert image.origin == "upper"  # row 0 of a picture is its top
    drawn = np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan)
    grid = mosaic.Grid.of(7, (3, 2))
    for number, row in enumerate(H):
        top, left = grid.corner(number)
        tile = drawn[top : top + 3, left : left + 2]
        np.testing.assert_allclose(tile, row.reshape(3, 2) / row.max())
    assert np.isfinite(drawn).sum() == H.size


def test_images_may_share_one_scale_and_keep_their_sign(rng: np.random.Generator) -> None:
    H = np.array([[1.0, 2.0], [4.0, 0.0]])
    figure = components(H, kind="image", image_shape=(1, 2), shared_scale=True)
    drawn = np.ma.masked_invalid(axes_of(figure, "components").images[0].get_array())
    assert sorted(drawn.compressed()) == [0, 0.25, 0.5, 1]
    signed = components(H - 1, kind="image", image_shape=(1, 2))
    image = axes_of(signed, "components").images[0]
    assert image.get_clim() == (-1, 1)
    assert np.ma.masked_invalid(image.get_array()).min() < 0


def test_image_shape_must_fit() -> None:
    with pytest.raises(UserError, match=r"image_shape=\(3, 3\) does not fit 8 features"):
        components(np.ones((1, 8)), kind="image", image_shape=(3, 3))
    with pytest.raises(UserError, match="image_shape=None"):
        components(np.ones((1, 8)), kind="image")


def test_topics_show_their_top_words_largest_first() -> None:
    H = np.array([[1.0, 5.0, 3.0, 1.0], [8.0, 0.0, 0.0, 2.0]])
    figure = components(H, ["pear", "apple", "plum", "fig"], "text", n_words=3)
    written = texts(figure)
    assert [w for w in written if w in ("pear", "apple", "plum", "fig")] == [
        *("apple", "plum", "pear"),
        *("pear", "fig", "apple"),
    ]
    first = axes_of(figure, "topics, column 1")
    np.testing.assert_allclose(bar_ends(first, 0), [50, 30, 10])


def test_heat_map_groups_features_by_component() -> None:
    H = np.array([[0.0, 9.0, 1.0, 6.0], [5.0, 0.0, 5.0, 0.0]])
    figure = components(H, ["a", "b", "c", "d"])
    axes = axes_of(figure, "components")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "d", "a", "c"]
    drawn = np.asarray(axes.images[0].get_array())
    share = H / H.sum(axis=1, keepdims=True)
    expected = (share / share.max(axis=0))[:, [1, 3, 0, 2]].T
    np.testing.assert_allclose(drawn, expected)


def test_heat_map_keeps_the_most_specific_features(rng: np.random.Generator) -> None:
    H = np.full((3, 1000), 1.0)
    H[0, 10], H[1, 20], H[2, 30] = 99.0, 99.0, 99.0
    chosen = specific_features(H, 3)
    assert chosen.tolist() == [10, 20, 30]
    figure = components(H, max_features=3)
    assert "The 3 of 1,000 features most specific to a component." in " ".join(texts(figure))


def test_shares_are_those_of_the_reconstruction(rng: np.random.Generator) -> None:
    W, H = rng.random((9, 4)), rng.random((4, 5))
    expected = [(W[:, [j]] @ H[[j]]).sum() / (W @ H).sum() for j in range(4)]
    np.testing.assert_allclose(component_shares(W, H), expected)
    assert component_shares(W - 1, H) is None
    with pytest.raises(UserError, match="W has 3 columns and H has 4 rows"):
        component_shares(W[:, :3], H)


@pytest.mark.parametrize("kind", ["image", "text", "sbs96", "generic"])
def test_many_components_show_the_largest_and_say_so(kind: str, rng: np.random.Generator) -> None:
    H = np.ones((50, 96))
    W = np.tile(np.arange(50.0), (2, 1))
    figure = components(H, SBS.keys, kind, image_shape=(8, 12), W=W, max_components=5)
    written = " ".join(texts(figure))
    assert "The largest 5 of 50" in written
    assert "C50" in written
    assert "C45 " not in written


@pytest.mark.parametrize("kind", ["image", "text", "sbs96", "generic"])
@pytest.mark.parametrize("sign", [0.0, -1.0])
def test_one_component_even_of_zeros_can_be_drawn(kind: str, sign: float) -> None:
    figure = components(np.full((1, 96), sign), SBS.keys, kind, image_shape=(8, 12))
    figure.canvas.draw()
    assert "nan" not in " ".join(texts(figure)).lower()


def test_unusable_matrices_and_names_are_refused() -> None:
    with pytest.raises(UserError, match="2 of 4 values that are NaN or infinite"):
        components(np.array([[1.0, np.nan], [np.inf, 1.0]]))
    with pytest.raises(UserError, match="non-empty matrix"):
        components(np.ones((0, 3)))
    with pytest.raises(UserError, match="1 names were given for 2 components"):
        components(np.ones((2, 3)), names=["a"])


def test_long_names_and_dollar_signs_are_written_safely() -> None:
    names = [f"$\\alpha_{{ gene with a very long name number {i}" for i in range(4)]
    figure = components(np.eye(4), names, names=names)
    figure.canvas.draw()
    longest = max(len(text) for text in texts(figure) if "gene" in text)
    assert longest <= 30


def test_a_decomposition_names_every_reference_and_its_share() -> None:
    from nmfnet.plots.decomposition import decomposition
    from nmfnet.plots.spectra import LAYOUTS

    R = np.random.default_rng(0).dirichlet(np.full(96, 0.2), 4)
    W = np.array([[0.51, 0.49, 0, 0], [0, 0, 0.05, 0.95]])
    parts = [([0, 1], [0.51, 0.49]), ([3, 2], [0.95, 0.05])]
    names = ["SBS13", "SBS2", "SBS8", "SBS5"]
    for features in (LAYOUTS["sbs96"].keys, None):
        figure = decomposition(W @ R, R, parts, features, reference_names=names)
        said = "\n".join(text.get_text() for text in figure.findobj(Text))
        for words in ("SBS13 51 %", "SBS2 49 %", "SBS5 95 %", "SBS8 5 %", "cosine 1.000", "C2"):
            assert words in said
    with pytest.raises(UserError, match="every component needs a sum"):
        decomposition(W @ R, R, parts[:1])
