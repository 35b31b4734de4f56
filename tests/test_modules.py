"""Modules of features and samples: planted ones are found, and noise has none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from shell import nmfnet, the_message

from nmfnet.errors import UserError
from nmfnet.kernels.isa import Module, isa, match_scores


def planted(seed: int = 0) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """80 samples x 600 features of noise, and five blocks that are two deviations higher."""
    rng = np.random.default_rng(seed)
    X, blocks, order = rng.normal(size=(80, 600)), [], rng.permutation(600)
    for i in range(5):
        features, samples = np.zeros(600, bool), np.zeros(80, bool)
        features[order[40 * i : 40 * (i + 1)]] = True
        samples[rng.choice(80, 12, replace=False)] = True
        X[np.ix_(samples, features)] += 2
        blocks.append((features, samples))
    return X, blocks


@pytest.mark.parametrize("seed", range(3))
def test_planted_modules_are_found_once_each(seed):
    X, blocks = planted(seed)
    found = isa(X)
    scores = match_scores(found, blocks)
    assert len(found) == 5
    assert scores["recovery"] >= 0.9
    assert scores["relevance"] >= 0.9
    again = isa(1e3 * X + 50)
    assert match_scores(again, blocks) == scores


def test_opposite_features_are_of_one_module_with_opposite_signs():
    X, blocks = planted()
    flipped = X.copy()
    features = np.flatnonzero(blocks[0][0])
    flipped[:, features[::2]] *= -1
    found = max(isa(flipped), key=lambda m: (m.features[features] != 0).sum())
    assert (found.features[features[::2]] <= 0).all()
    assert (found.features[features[1::2]] >= 0).all()


def test_noise_has_no_modules():
    assert sum(len(isa(np.random.default_rng(s).normal(size=(60, 300)))) for s in range(5)) <= 1


def test_scores_of_a_match_count_entries():
    features, samples = np.array([1, 1, 0, 0]) > 0, np.array([1, 1, 0]) > 0
    half = Module(np.array([1.0, 0, 0, 0]), np.array([1.0, -0.5, 0]), 1.0)
    assert match_scores([half], [(features, samples)]) == {"recovery": 0.5, "relevance": 0.5}
    assert match_scores([], [(features, samples)]) == {"recovery": 0.0, "relevance": 0.0}


def test_unusable_data_and_options_are_refused():
    X, _ = planted()
    for data, options, said in (
        (X, {"feature_threshold": 0}, "feature_threshold=0: it must be above 0"),
        (X, {"seeds": 0}, "at least 1 seed"),
        (X, {"overlap": 1.0}, "overlap in"),
        (X[:3], {}, "at least 4 rows"),
        (np.where(X > 3, np.nan, X), {}, "finite numbers"),
        (np.ones((9, 9)), {}, "nothing to group by"),
    ):
        with pytest.raises(UserError, match=said):
            isa(data, **options)


def test_command_line(tmp_path):
    X, blocks = planted()
    names = [f"g{j}" for j in range(600)]
    pd.DataFrame(X, [f"s{i}" for i in range(80)], names).to_csv(tmp_path / "x.csv")
    words = ["modules", "data=table", "data.path=x.csv", "data.orientation=samples_by_features"]
    done = nmfnet(*words, "-o", "out", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "5 modules, in out" in done.out
    table = pd.read_csv(tmp_path / "out" / "modules.csv")
    first = set(table[(table["module"] == 1) & (table["kind"] == "feature")]["name"])
    assert max(len(first & set(np.array(names)[f])) for f, _ in blocks) >= 36
    assert (tmp_path / "out" / "modules.png").is_file()
    wrong = nmfnet(*words, "--log", "-o", "log", cwd=tmp_path)
    assert "values are negative" in the_message(wrong)
    assert "say which data" in the_message(nmfnet("modules", "seed=1", cwd=tmp_path))
