from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from report_runs import make_run

import nmfnet
from nmfnet import UserError
from nmfnet.data.formats.factors import read_factors
from nmfnet.data.sources.channels import SBS96
from nmfnet.report.export import FORMATS, export


@pytest.fixture
def signatures(tmp_path):
    """A run over the 96 channels in another notation and a shuffled order."""
    folder = make_run(tmp_path, "sbs")
    rng = np.random.default_rng(0)
    order = rng.permutation(96)
    names = [f"{SBS96[i][2:5]}:{SBS96[i][0]}{SBS96[i][2]}{SBS96[i][6]}" for i in order]
    arrays = {"W": rng.random((3, 2)), "H": 5 * rng.random((2, 96)), "W_test": rng.random((1, 2))}
    np.savez(
        folder / "factors.npz",
        **arrays,
        sample_names=np.array(["a", "b", "c"]),
        test_sample_names=np.array(["d"]),
        feature_names=np.array(names),
    )
    return folder, arrays, order


def test_csv_has_names_and_reads_back_exactly(tmp_path, capsys):
    folder = make_run(tmp_path, "a")
    written = export(folder, "csv")
    assert [f.name for f in written] == ["W.csv", "H.csv"]
    assert written[0].parent == folder / "export"
    assert capsys.readouterr().out.split() == [str(f) for f in written]
    W, H = (pd.read_csv(file, index_col=0) for file in written)
    with np.load(folder / "factors.npz") as held:
        np.testing.assert_array_equal(W.to_numpy(), held["W"])
        np.testing.assert_array_equal(H.to_numpy(), held["H"])
    assert list(W.index) == [f"s{i}" for i in range(6)]
    assert list(W.columns) == list(H.index) == ["C1", "C2", "C3", "C4"]
    assert list(H.columns) == [f"f{i}" for i in range(5)]


def test_sigprofiler_files_have_its_channels_order_and_units(signatures, tmp_path):
    folder, arrays, order = signatures
    files = export(folder, "sigprofiler", tmp_path / "out")
    S, A, P = (pd.read_csv(file, sep="\t", index_col=0) for file in files)
    assert S.index.name == "MutationType"
    assert A.index.name == "Samples"
    assert list(S.index[:5]) == ["A[C>A]A", "A[C>A]C", "A[C>A]G", "A[C>A]T", "A[C>G]A"]
    assert S.index[-1] == "T[T>G]T"
    assert list(S.columns) == list(A.columns) == ["SBS96A", "SBS96B"]
    assert list(A.index) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(S.sum(), 1, rtol=1e-6)
    whole = np.vstack([arrays["W"], arrays["W_test"]]) @ arrays["H"]
    back = (A.to_numpy() @ S.to_numpy().T)[:, [list(S.index).index(SBS96[i]) for i in order]]
    np.testing.assert_allclose(back, whole, rtol=1e-6)
    parts = A.to_numpy()[:, None] * S.to_numpy()  # (sample, channel, signature)
    expected = parts / parts.sum(2, keepdims=True)
    assert list(P.columns) == ["MutationType", "SBS96A", "SBS96B"]
    np.testing.assert_allclose(P[["SBS96A", "SBS96B"]], expected.reshape(-1, 2), rtol=1e-3)


def test_sigprofiler_refuses_other_features_and_signs(signatures, tmp_path):
    with pytest.raises(UserError, match="5 features, the first is 'f0'"):
        export(make_run(tmp_path, "a"), "sigprofiler", tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    folder, arrays, _ = signatures
    with np.load(folder / "factors.npz") as held:
        np.savez(folder / "factors.npz", **{**held, "H": -arrays["H"]})
    with pytest.raises(UserError, match="negative"):
        export(folder, "sigprofiler")


def test_anndata(signatures, tmp_path):
    anndata = pytest.importorskip("anndata", reason="the extra anndata is not installed")
    folder, arrays, _ = signatures
    (file,) = export(folder, "anndata", tmp_path / "out")
    table = anndata.read_h5ad(file)
    np.testing.assert_array_equal(table.varm["H"], arrays["H"].T)
    np.testing.assert_array_equal(table.obsm["W"][:3], arrays["W"])
    assert list(table.obs["part"]) == ["train", "train", "train", "test"]
    assert list(table.uns["component_names"]) == ["SBS96A", "SBS96B"]
    assert json.loads(table.uns["nmfnet"]["metrics"])["n_iter"] == 500


def test_safetensors(tmp_path):
    package = pytest.importorskip("safetensors", reason="the extra export is not installed")
    folder = make_run(tmp_path, "a")
    (file,) = export(folder, "safetensors")
    with package.safe_open(file, "np") as held, np.load(folder / "factors.npz") as arrays:
        np.testing.assert_array_equal(held.get_tensor("H"), arrays["H"])
        assert json.loads(held.metadata()["feature_names"]) == [f"f{i}" for i in range(5)]
        assert json.loads(held.metadata()["component_names"]) == ["C1", "C2", "C3", "C4"]


@pytest.fixture
def trained(tmp_path):
    X = np.random.default_rng(0).random((20, 6))

    def train(model, X=X, **settings):
        folder = tmp_path / "trained" / model
        fitted = nmfnet.fit(
            X, model, run_dir=folder, max_iter=20, figures=False, n_restarts=2, **settings
        )
        return folder, fitted, X

    return train


@pytest.mark.parametrize(
    ("model", "scale"),
    [("deep_autoencoder", 1), ("pca", 1e-9), ("projective_nmf", 1e9), ("vae", 1)],
)
def test_onnx_computes_what_the_model_does(model, scale, trained):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    X = np.random.default_rng(0).poisson(9, (20, 6)) * scale
    folder, fitted, X = trained(model, X=X, n_components=3)
    (file,) = export(folder, "onnx")
    session = runtime.InferenceSession(file)
    W, X_hat = session.run(None, {"X": X[:7].astype(np.float32)})
    for found, wanted in ((W, fitted.transform(X[:7])), (X_hat, fitted.reconstruct(X[:7]))):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("model", "own"), [("lda", {}), ("flow", {"coupling": "spline"})])
def test_onnx_refuses_in_a_sentence_what_is_no_graph_of_operators(model, own, trained, capfd):
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    X = np.random.default_rng(0).poisson(9, (20, 6)) + np.random.default_rng(1).random((20, 6))
    folder, *_ = trained(model, X=X, **own)
    with pytest.raises(UserError, match=f"cannot write what trained/{model}"):
        export(folder, "onnx")
    assert capfd.readouterr() == ("", "")


def test_onnx_refuses_models_that_solve_for_W(trained):
    with pytest.raises(UserError, match="needs a model whose W is computed by a network"):
        export(trained("nmf", n_components=3, solver="mu")[0], "onnx")


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    import sys

    for package in ("safetensors", "safetensors.numpy", "anndata"):
        monkeypatch.setitem(sys.modules, package, None)
    folder = make_run(tmp_path, "a")
    for to, extra in (("safetensors", "export"), ("anndata", "anndata")):
        with pytest.raises(UserError, match=rf"pip install 'nmfnet\[{extra}\]'"):
            export(folder, to)


def test_bad_requests_have_one_message(tmp_path):
    folder = make_run(tmp_path, "a")
    with pytest.raises(UserError, match=f"it has: {', '.join(FORMATS)}"):
        export(folder, "parquet")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        export(folder, "csv", tmp_path / "file")
    (folder / "factors.npz").unlink()
    with pytest.raises(UserError, match=r"factors\.npz cannot be read"):
        export(folder, "csv")


@pytest.mark.parametrize("how", ["cut", "text", "middle", "no H"])
def test_damaged_factors_have_one_message(how, tmp_path):
    folder = make_run(tmp_path, "nmf")
    file = folder / "factors.npz"
    if how == "no H":
        np.savez(file, W=np.ones((2, 1)), feature_names=np.array(["a"]))
    else:
        np.savez_compressed(
            file, W=np.ones((9, 2)), H=np.eye(2), feature_names=np.array(["a", "b"])
        )
        whole = file.read_bytes()
        half = len(whole) // 2
        middle = whole[:60] + b"?" * 40 + whole[100:]
        file.write_bytes({"cut": whole[:half], "text": b"no", "middle": middle}[how])
    with pytest.raises(
        UserError, match=r"factors.npz (is damaged|holds no H): repeat the run"
    ) as said:
        export(folder, "csv")
    assert "pickle" not in str(said.value)
    with pytest.raises(UserError, match=r"factors.npz (is damaged|holds no H)"):
        read_factors(folder)
