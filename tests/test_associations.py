"""Components against phenotypes: known effects, honest chance, what is not tested, held-out samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kruskal, mannwhitneyu, spearmanr
from shell import refusal, the_run, train

from nmfnet.errors import UserError
from nmfnet.metrics import associate, specific_features

NAMES = ["A", "B", "C"]


def cohort(n: int = 90, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weights of which the first goes with an illness and the second with age."""
    rng = np.random.default_rng(seed)
    W = rng.gamma(2, 1, (n, 3))
    state = np.where(np.arange(n) % 2, "well", "ill").astype(object)
    W[state == "ill", 0] *= 3
    shares = W / W.sum(1, keepdims=True)
    return W, {
        "state": state,
        "age": 40 + 30 * shares[:, 1] + rng.normal(size=n),
        "site": rng.choice(["x", "y", "z"], n).astype(object),
    }


def test_tests_are_those_of_scipy_on_shares_with_false_discoveries_held():
    W, about = cohort()
    found = {(r.component, r.phenotype): r for r in associate(W, about, NAMES, permutations=0).rows}
    shares = W / W.sum(1, keepdims=True)
    ill = about["state"] == "ill"
    by_hand = {
        ("A", "state"): mannwhitneyu(shares[~ill, 0], shares[ill, 0], method="asymptotic").pvalue,
        ("B", "age"): spearmanr(shares[:, 1], about["age"]).pvalue,
        ("C", "site"): kruskal(*(shares[about["site"] == s, 2] for s in "xyz")).pvalue,
    }
    for pair, p in by_hand.items():
        assert found[pair].p == pytest.approx(p)
    assert found["A", "state"].effect < -0.4  # the last class by name is the one that is well
    assert found["B", "age"].effect > 0.9
    p = np.array([row.p for row in found.values()])
    q = np.array([row.q for row in found.values()])
    order = np.argsort(p)
    stepped = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    np.testing.assert_allclose(q[order], np.minimum(stepped, 1))
    assert found["largest", "state"].test == "chi-square"
    assert "largest", "age" not in found


def test_chance_gives_what_the_level_says():
    rng = np.random.default_rng(3)
    about = {"state": rng.choice(["a", "b"], 60).astype(object), "age": rng.normal(size=60)}
    found = associate(rng.gamma(1, 1, (60, 6)), about, list("ABCDEF"), permutations=60)
    assert 0.02 < found.null < 0.08
    tested = [row for row in found.rows if row.component != "largest"]
    gap = [abs(row.p - row.p_permuted) for row in tested]
    assert np.mean(gap) < 0.1


def test_what_cannot_be_tested_is_said_in_a_sentence():
    W, about = cohort()
    n = len(W)
    about |= {
        "constant": np.full(n, 3.0),
        "name": np.array([f"p{i}" for i in range(n)], dtype=object),
        "unknown": np.full(n, np.nan),
        "again": np.where(about["state"] == "ill", "b", "a").astype(object),
        "months": -12 * about["age"],
        "rare": np.where(np.arange(n) < 2, "few", about["site"]).astype(object),
    }
    found = associate(W, about, NAMES, permutations=0)
    notes = " ".join(found.notes)
    for said in (
        "'constant' is not tested: it is 3.0 in all 90 samples",
        "'name' is not tested: none of its 90 classes",
        "'unknown' is not tested: it is known of no sample",
        "'state' and 'again' determine each other",
        "'age' and 'months' determine each other",
        "1 classes of the phenotype 'rare' with fewer than 3 samples are left out (first: few)",
    ):
        assert said in notes
    tested = {row.phenotype for row in found.rows}
    assert tested == {"state", "age", "site", "again", "months", "rare"}
    with pytest.raises(UserError, match=r"'state' has the shape \(5,\)"):
        associate(W, {"state": about["state"][:5]}, NAMES)
    alone = associate(W[:, :1], about, NAMES[:1], permutations=0)
    assert "one component, of which every sample's share is 1" in " ".join(alone.notes)
    empty = associate(np.where(np.arange(n)[:, None] < 9, 0, W), about, NAMES, permutations=0)
    assert {row.n for row in empty.rows if row.phenotype == "state"} == {81}


def test_features_that_tell_components_apart():
    H = np.full((2, 40), 1.0)
    H[:, :20] += np.linspace(0, 0.01, 20)
    H[0, 3], H[1, 30] = 9, 12
    H[:, 5] = (1e-6, 1e-3)  # specific, and next to nothing
    assert np.flatnonzero(specific_features(H)).tolist() == [3, 30]


def tables(tmp_path, n: int = 80) -> list[str]:
    """Files of counts and phenotypes; the words that read them."""
    rng = np.random.default_rng(0)
    W, about = cohort(n)
    X = rng.poisson(60 * W @ rng.dirichlet(np.full(12, 0.3), 3))
    names = [f"s{i}" for i in range(n)]
    pd.DataFrame(X, names, [f"g{j}" for j in range(12)]).to_csv(tmp_path / "x.csv")
    pd.DataFrame(about, names).iloc[::-1].to_csv(tmp_path / "about.tsv", sep="\t")
    words = ["data=table", "data.path=x.csv", "data.orientation=samples_by_features", "loss=kl"]
    return [*words, "data.phenotypes=about.tsv"]


def test_command_line_tests_on_samples_that_were_not_fitted(tmp_path):
    words = tables(tmp_path)
    done = train("experiment=associate", *words, "model.n_components=3", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "on 40 held-out samples" in " ".join(done.out.split())
    run = the_run(tmp_path)
    table = pd.read_csv(run / "associations.csv")
    assert set(table["phenotype"]) == {"state", "age", "site"}
    assert table["p"].is_monotonic_increasing
    assert table.loc[table["phenotype"] == "age", "q"].min() < 1e-4
    assert (run / "figures" / "associations.png").is_file()
    scores = pd.read_csv(run / "feature_scores.csv")
    assert len(scores) == 12
    assert scores["score"].between(0, 1).all()
    fitted = train(*words, "model.n_components=3", f"run_dir={tmp_path / 'all'}", cwd=tmp_path)
    assert "experiment=associate tests on others" in " ".join(fitted.out.split())
    (tmp_path / "about.tsv").write_text("name\tage\nq1\t3\nq2\t4\n")
    assert "has none of the 80 samples" in refusal(
        *words, "seed=4", cwd=tmp_path, leaving=("x.csv", "about.tsv")
    )


@pytest.mark.slow
def test_the_number_of_components_is_chosen_on_the_others(tmp_path):
    words = tables(tmp_path)
    few = ["ranks=2:4", "selection.replicates=4", "selection.ard=0"]
    done = train("experiment=associate", *words, *few, f"run_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "40 of 80 samples are held out of every fit" in said
    assert "on 40 held-out samples" in said
    assert len(pd.read_csv(tmp_path / "run" / "associations.csv")) >= 9


@pytest.mark.parametrize("unknown", [None, np.nan, float("nan")])
def test_unknown_classes_may_be_none_or_nan(unknown):
    W, about = cohort()
    state = about["state"].copy()
    state[:5] = ""
    wanted = associate(W, {"state": state}, NAMES, permutations=2)
    state[:5] = unknown
    assert associate(W, {"state": state}, NAMES, permutations=2) == wanted
    assert state[0] is unknown
