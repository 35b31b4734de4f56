"""The pieces of a rank selection: ranks in words, replicates, weights, the rule, decompositions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfnet import metrics
from nmfnet.data.matrix import Matrix
from nmfnet.data.sources.channels import CHANNELS, recognise_channels
from nmfnet.errors import UserError
from nmfnet.plots.selection import rank_selection
from nmfnet.plots.spectra import LAYOUTS
from nmfnet.run.signatures import whole_mutations
from nmfnet.selection.options import Selection, parse_ranks
from nmfnet.selection.relevance import fit_relevance, kept
from nmfnet.selection.resampling import are_counts, cutoff, hypermutators_note, resample, thin
from nmfnet.selection.rule import suggest
from nmfnet.selection.weights import intervals, refit_weights


# ---------------------------------------------------------------------- ranks
@pytest.mark.parametrize(
    ("ranks", "meaning"),
    [
        (4, [4]),
        ("2:5", [2, 3, 4, 5]),
        ("2:9:3", [2, 5, 8]),
        ([5, 2, 2], [2, 5]),
        ("7,2:3", [2, 3, 7]),
        ([3, "6:8:2"], [3, 6, 8]),
    ],
)
def test_ranks_in_words(ranks, meaning):
    assert parse_ranks(ranks) == meaning


@pytest.mark.parametrize("ranks", ["", "0:3", "8:2", "a", "2-5", "2:5:0x", -1, [], 2.5, "2:3:4:5"])
def test_what_names_no_rank_is_refused(ranks):
    with pytest.raises(UserError, match="ranks="):
        parse_ranks(ranks)


@pytest.mark.parametrize(
    "options", [{"replicates": 1}, {"folds": 0}, {"held_share": 1.0}, {"noise": 0.0}, {"n_jobs": 0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=f"selection.{next(iter(options))}"):
        Selection(**options)


# ---------------------------------------------------------------------- replicates
COUNTS = np.random.default_rng(0).poisson(3.0, (40, 30)).astype(float)


@pytest.mark.parametrize("how", ["poisson", "multinomial", "uniform", "none"])
@pytest.mark.parametrize("sparse", [False, True])
def test_replicates_have_the_mean_of_the_data(how, sparse):
    rng = np.random.default_rng(1)
    x = sp.csr_matrix(COUNTS) if sparse else COUNTS
    draws = [resample(x, how, rng) for _ in range(300)]
    stack = np.array([d.toarray() if sparse else d for d in draws])
    error = np.sqrt(np.maximum(COUNTS, 0.1) / 300)
    assert (np.abs(stack.mean(0) - COUNTS) < 6 * error).all()
    assert (stack[:, COUNTS == 0] == 0).all()
    if how == "multinomial":
        assert np.array_equal(stack.sum(2), np.broadcast_to(COUNTS.sum(1), (300, 40)))
    if how == "poisson":  # the variance is the mean
        large = COUNTS > 2
        assert stack.var(0)[large].mean() == pytest.approx(COUNTS[large].mean(), rel=0.05)
    if how == "none":
        assert (stack == COUNTS).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_thinned_poisson_counts_are_independent(sparse):
    rng = np.random.default_rng(2)
    whole = rng.poisson(5.0, (400, 200)).astype(float)
    kept, rest = thin(sp.csr_matrix(whole) if sparse else whole, 0.8, rng)
    kept, rest = (m.toarray() if sparse else m for m in (kept, rest))
    assert np.array_equal(kept + rest, whole)
    assert min(kept.min(), rest.min()) >= 0
    assert kept.mean() == pytest.approx(4.0, rel=0.01)
    assert abs(np.corrcoef(kept.ravel(), rest.ravel())[0, 1]) < 4 / np.sqrt(whole.size)


def test_counts_are_recognised_and_outliers_are_few():
    assert are_counts(COUNTS)
    assert are_counts(sp.csr_matrix(COUNTS))
    assert not are_counts(COUNTS + 0.5)
    assert not are_counts(-COUNTS)
    totals = np.random.default_rng(3).lognormal(8, 0.5, 1000)
    assert (np.append(totals, 1e7) > cutoff(np.append(totals, 1e7), 1)).sum() <= 10
    assert cutoff(totals, 10**6) == 1e8


def test_outliers_in_size_are_said_where_they_weigh():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(2, 50, size=(60, 1)) * np.ones(10))
    matrix = Matrix(counts, [f"s{i}" for i in range(60)], list("abcdefghij"))
    assert hypermutators_note(matrix, capped=False) is None
    counts[7] = 200_000
    said = hypermutators_note(matrix, capped=False)
    assert said is not None
    assert said.startswith("1 of 60 samples")
    assert "selection.hypermutators=cap" in said
    assert "thinned" in str(hypermutators_note(matrix, capped=True))


# ---------------------------------------------------------------------- weights
@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_refitted_weights_are_the_kl_optimum(seed):
    """KKT: the derivative is 0 where the weight is positive, and not negative where it is 0."""
    rng = np.random.default_rng(seed)
    H = rng.dirichlet(np.full(20, 0.3), 4) + 1e-6
    x = rng.poisson(rng.exponential(50, (15, 4)) * (rng.random((15, 4)) < 0.6) @ H).astype(float)
    W = refit_weights(x, H, 1.0)
    slope = H.sum(1) - (x / np.maximum(W @ H, 1e-300)) @ H.T
    on = 1e-6 * np.maximum(x.sum(1, keepdims=True), 1) < W
    assert (W >= 0).all()
    assert np.abs(slope[on & (x.sum(1, keepdims=True) > 0)]).max(initial=0) < 1e-3
    assert slope[~on].min(initial=0) > -1e-3
    assert (W[x.sum(1) == 0] == 0).all()
    assert np.allclose(W.sum(1), x.sum(1) / H.sum(1).mean(), rtol=1e-3)


def test_refitted_weights_solve_least_squares_and_ignore_what_is_masked():
    rng = np.random.default_rng(4)
    H, W = rng.random((3, 12)), rng.random((8, 3))
    assert np.allclose(refit_weights(W @ H, H, 2.0), W, atol=1e-8)
    for array in (H, W):
        array.flags.writeable = False  # as pandas and np.load(mmap_mode="r") give them
    seen = rng.random((8, 12)) < 0.8
    spoilt = np.where(seen, W @ H, 99.0)
    for beta in (1.0, 2.0):
        assert np.allclose(refit_weights(spoilt * seen, H, beta, seen), W, atol=1e-3)


def test_whole_activities_sum_to_the_mutations_of_the_sample():
    W = np.random.default_rng(0).dirichlet(np.ones(5), 40) * np.arange(40)[:, None]
    whole = whole_mutations(W)
    assert (whole.sum(1) == np.arange(40)).all()
    assert (whole == np.rint(whole)).all()
    assert np.abs(whole - W).max() < 1
    assert whole_mutations(np.array([[0.4, 1.3, 1.3]])).tolist() == [[1, 1, 1]]


def test_intervals_hold_the_share_of_draws_that_they_say():
    rng = np.random.default_rng(5)
    draws = list(rng.normal(100, 10, (400, 6, 2)))
    low, high, present = intervals(draws)
    assert np.allclose(low, 100 - 19.6, atol=5)
    assert np.allclose(high, 100 + 19.6, atol=5)
    assert (present == 1).all()


# ---------------------------------------------------------------------- the rule
def rows(*values: tuple[float, ...]) -> list[dict[str, float]]:
    keys = ("n_components", "silhouette_mean", "silhouette_min", "worse", "worse_se")
    return [dict(zip(keys, value, strict=False)) for value in values]


def test_the_rule_takes_the_smallest_stable_rank_that_predicts_as_well():
    table = rows(
        (2, 1.0, 0.9, 50, 5), (3, 0.95, 0.9, 2, 3), (4, 0.9, 0.5, 0, 0), (5, 0.6, 0.1, -9, 2)
    )
    found = suggest(table, Selection(), "loss")
    assert found.n_components == 3
    assert found.stable == [2, 3, 4]
    assert "within one standard error" in found.reason
    assert "rank 2 is worse by 48" in found.reason
    assert "rank 5 is not stable" in found.reason
    sharper = [{**row, "worse_se": 0.1} for row in table]
    assert suggest(sharper, Selection(), "loss").n_components == 4


def test_the_rule_without_stable_ranks_or_held_out_data():
    table = rows((2, 0.5, 0.1), (3, 0.7, 0.0), (4, 0.6, 0.1))
    found = suggest(table, Selection(), "")
    assert (found.n_components, found.stable) == (3, [])
    assert "caution" in found.reason
    loose = Selection(min_silhouette_mean=0.4, min_silhouette_min=0.05)
    found = suggest(table, loose, "")
    assert found.n_components == 4
    assert "widen ranks" in found.reason


def test_a_rank_at_the_end_of_the_range_is_said():
    for first, best in ((2, 3), (2, 2), (1, 1)):
        worse = [9 * (k != best) for k in (first, first + 1)]
        table = rows(*((first + i, 1, 1, w, w / 9) for i, w in enumerate(worse)))
        found = suggest(table, Selection(), "loss")
        assert found.n_components == best
        assert ("widen ranks" in found.reason) == (best > 1)


# ---------------------------------------------------------------------- decomposition
@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_a_sum_of_references_is_taken_apart(seed):
    rng = np.random.default_rng(seed)
    known = rng.dirichlet(np.full(96, 0.1), 20)
    parts = rng.choice(20, 3, replace=False)
    shares = np.array([0.5, 0.3, 0.2])
    (found,) = metrics.decompose([shares @ known[parts]], known, add=0.02, remove=0.005)
    assert set(parts) == set(found.references)
    assert found.references[0] == parts[0]
    assert np.allclose(found.shares, shares, atol=1e-6)
    assert found.cosine == pytest.approx(1)
    assert found.error < 1e-6


def test_a_reference_is_itself_and_small_parts_are_left_out():
    known = np.random.default_rng(6).dirichlet(np.full(96, 0.1), 8)
    assert metrics.decompose(known[[3]], known)[0].references == [3]
    (found,) = metrics.decompose([known[1] + 0.01 * known[5]], known)
    assert found.references == [1]
    assert len(metrics.decompose([known.sum(0)], known, most=2)[0].references) <= 2


def test_decompositions_that_cannot_be_are_refused():
    known = np.eye(4)
    with pytest.raises(UserError, match="remove < add"):
        metrics.decompose(known, known, add=0.01, remove=0.01)
    with pytest.raises(UserError, match="zero"):
        metrics.decompose(np.zeros((1, 4)), known)


# ---------------------------------------------------------------------- channels
SPELLED = {
    "SBS96": lambda c: f"{c[2:5]},{c[0]}{c[2]}{c[-1]}",
    "DBS78": lambda c: c.replace(">", "_"),
    "ID83": lambda c: "DEL_C_1_5+" if c == "1:Del:C:5" else c,
    "SBS192": str,
    "SBS288": str.lower,
    "SBS384": str.upper,
    "SBS1536": str,
}


@pytest.mark.parametrize("system", CHANNELS)
def test_complete_systems_are_recognised_in_any_order(system):
    known = CHANNELS[system]
    order = np.random.default_rng(7).permutation(len(known))
    labels = [SPELLED[system](known[i]) for i in order]
    assert recognise_channels(labels) == (system, [known[i] for i in order])
    assert recognise_channels(labels[1:]) is None
    assert recognise_channels([*labels[1:], labels[1]]) is None


def test_pictures_and_tables_have_the_same_channels():
    for kind, layout in LAYOUTS.items():
        assert set(layout.keys) == set(CHANNELS[kind.upper()])


# ---------------------------------------------------------------------- the picture
def marks(figure) -> np.ndarray:
    """Where the triangles of ARD are, in the first panel."""
    (found,) = (c for c in figure.axes[0].collections if c.get_label() == "_ard")
    return np.asarray(found.get_offsets())


def test_the_picture_draws_what_is_there():
    figure = rank_selection(rows((2, 1, 0.9, 5e5, 50), (3, 0.9, 0.5, 0, 0)), suggested=3)
    assert len(figure.axes) == 4
    assert not marks(figure).size
    some = [
        {**row, "ard": share}
        for row, share in zip(rows((2, 1, 1), (3, 1, 1)), (0.0, 0.8), strict=True)
    ]
    assert marks(rank_selection(some)).tolist() == [[3.0, 0.04]]  # ranks that no start keeps: none
    with pytest.raises(UserError, match="no row"):
        rank_selection([])


# ---------------------------------------------------------------------- ARD
def made(kept_: int, objective: float, converged: float = 1.0) -> dict[str, float]:
    shared = {"dispersion": 1.0, "seconds": 0.5, "converged": converged}
    return {"kept": kept_, "objective": objective, **shared}


def test_ard_says_what_its_best_start_keeps_and_how_much_the_starts_differ():
    found = kept([made(6, 3.0), made(5, 1.0), made(5, 2.0, 0.0)], 12)
    assert found.n_components == 5
    assert found.sentence == (
        "ARD keeps 5 of 12 components (5 to 6 over 3 starts); 1 of the starts did not converge"
    )
    assert "may want more than the largest rank" in kept([made(8, 0.0)], 8).sentence


@pytest.mark.slow
def test_ard_on_a_matrix():
    """Counts: at least Poisson even where the noise was taken away. Rows twice: the same twice."""
    rng = np.random.default_rng(0)
    mean = rng.gamma(0.7, 100, (40, 3)) @ rng.dirichlet(np.full(30, 0.3), 3)
    noise_free = Matrix(np.rint(mean), [f"s{i}" for i in range(40)], [f"f{j}" for j in range(30)])
    draws = (np.random.default_rng(1), np.random.default_rng(2))
    found = fit_relevance(noise_free, 1.0, 6, draws)
    assert found["kept"] == 3
    assert found["dispersion"] == 1.0
    assert (found["relevance"] >= 1 - 1e-12).all()
