from __future__ import annotations

import numpy as np
import pytest
from report_runs import make_run, write_json

from nmfnet import UserError
from nmfnet.report.collect import collect
from nmfnet.report.compare import compare, compare_runs
from nmfnet.report.run import read_run
from nmfnet.report.terms import groups_of
from nmfnet.run.lock import locked


def compared(a, b):
    return compare_runs(read_run(a), read_run(b))


def test_settings_numbers_and_ratio(tmp_path):
    a = make_run(tmp_path, "a", error=0.4, metrics={"solver": "mu"})
    b = make_run(tmp_path, "b", model="ae", error=0.2, metrics={"solver": "adam", "extra": 1})
    found = compared(a, b)
    assert found.settings == {"model": ("nmf", "ae")}
    assert found.unequal == {}
    numbers = {key: rest for key, _, *rest in found.numbers}
    assert numbers["test/relative_error"] == [0.4, 0.2, 0.5]
    assert numbers["extra"][:2] == [None, 1]
    assert np.isnan(numbers["extra"][2])
    assert np.isnan(numbers["converged"][2])  # a ratio of yes and no says nothing
    assert numbers["solver"][:2] == ["mu", "adam"]


def test_unlike_losses_have_no_ratio(tmp_path):
    a = make_run(tmp_path, "a", error=0.4)
    b = make_run(tmp_path, "b", error=0.2, choices={"loss": "kl"})
    ratios = {key: ratio for key, *_, ratio in compared(a, b).numbers}
    assert np.isnan(ratios["objective"])
    assert np.isnan(ratios["train/loss"])
    assert ratios["test/relative_error"] == 0.5


def test_components_are_matched_by_cosine_also_in_another_order_of_features(tmp_path):
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    with np.load(a / "factors.npz") as held:
        arrays = dict(held)
    order = [3, 1, 0, 4, 2]
    arrays["H"] = 7 * arrays["H"][[2, 0, 3, 1]][:, order]
    arrays["feature_names"] = arrays["feature_names"][order]
    np.savez(b / "factors.npz", **arrays)
    found = compared(a, b)
    assert {(i, j) for i, j, _ in found.matched} == {(1, 2), (2, 4), (3, 1), (4, 3)}
    assert all(score == pytest.approx(1) for *_, score in found.matched)


def test_unequal_terms_and_other_held_out_rows_are_said(tmp_path, capsys):
    a = make_run(tmp_path, "a")
    b = make_run(tmp_path, "b", seed=1, config={"max_iter": 7})
    compare(a, b)
    told = capsys.readouterr().out
    assert "not on equal terms" in told
    assert "max_iter: 1000 / 7" in told
    assert "seed (other rows or entries are held out): 0 / 1" in told
    compare(a, make_run(tmp_path, "c", config={"solver.n_inner": 5}))
    assert "not on equal terms" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("split", "held_out"),
    [("cold_rows", "rows or entries"), ("labels", "labels"), ("time", None), ("none", None)],
)
def test_what_a_seed_holds_out_is_said_of_every_split(split, held_out, tmp_path):
    runs = [make_run(tmp_path, f"r{seed}", choices={"split": split}, seed=seed) for seed in (0, 1)]
    said = [] if held_out is None else [f"seed (other {held_out} are held out)"]
    assert list(compared(*runs).unequal) == said


def test_other_features_are_not_matched_but_the_rest_is_compared(tmp_path, capsys):
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    (b / "factors.npz").write_bytes(b"no")
    compare(a, b)
    told = capsys.readouterr().out
    assert "components not matched" in told
    assert "held-out relative error" in told


def test_what_is_no_finished_run_is_refused(tmp_path):
    good, bad = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    (bad / "metrics.json").write_text("{")
    newer = make_run(tmp_path, "c", origin={"versions": {"nmfnet": "9.0"}})
    running = make_run(tmp_path, "d")
    (running / "metrics.json").unlink()
    for folder, said in (
        *[(bad, "metrics.json cannot be read"), (newer, "upgrade nmfnet")],
        *[(running, "still running"), (tmp_path, "holds no run"), (tmp_path / "x", "no folder")],
    ):
        with pytest.raises(UserError, match=said), locked(running):
            compare(good, folder)


def test_corrupt_config_of_one_run(tmp_path):
    good, bad = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    write_json(bad / "config.yaml", {"model": 3})
    with pytest.raises(UserError, match=r"config\.yaml or metrics\.json is missing or empty"):
        compare(good, bad)


def test_how_ranks_would_be_selected_is_no_setting_of_a_single_run(tmp_path):
    many = {"selection": {"replicates": 100}}
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b", config=many)
    assert compared(a, b).settings == {}
    c = make_run(tmp_path, "c", config=many | {"ranks": "2:4"})
    assert set(compared(a, c).settings) == {"ranks", "selection.replicates"}


def test_likelihoods_of_their_own_are_never_ranked_against_each_other(tmp_path):
    """The bits of one law and the energy of a game say nothing of each other; links are links."""
    own = {"choices": {"loss": "own"}, "config": {"loss": {"_target_": "nmfnet.core.losses.Own"}}}
    for model, loss in (("flow", 12.0), ("gan", 0.3)):
        for seed in (0, 1):
            make_run(
                tmp_path, f"{seed}", model=model, seed=seed, metrics={"train/loss": loss}, **own
            )
    names = [group.name for group in groups_of(collect(tmp_path))]
    assert names == [f"digits · own of {model} · rows held out" for model in ("flow", "gan")]
    links = tmp_path / "links"
    for model, loss in (("graph_ae", own), ("sym_nmf", {})):
        make_run(links, "a", model=model, metrics={"link/auc": 0.9}, **loss)
    (group,) = groups_of(collect(links))
    assert group.main == "link/auc"
