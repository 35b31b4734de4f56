"""``solver.loop``: the same numbers however the iterations run, and none of them waits for a device."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from making import (
    LOSSES,
    MULTILINEAR,
    advance,
    make,
    multilinear,
    planted,
    positive,
    some_mask,
    values,
)

from nmfnet.errors import UserError
from nmfnet.run.checkpoint import task_of
from nmfnet.solvers import loops
from nmfnet.solvers.choice import check_solver


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("variant", "loss"), multilinear(["frobenius", "kl", "itakura_saito", "beta=0.5"])
)
def test_iterations_never_wait_for_the_device(variant, loss, masked):
    """Tensors without numbers: whatever looks at one on the host, or mixes devices, fails."""
    X = positive(20, 18)
    mask = some_mask(*X.shape) if masked else None
    model, batch = make(X, mask=mask, n_restarts=2, **MULTILINEAR[variant], **LOSSES[loss])
    model.to("meta")
    moved = [None if v is None else v.to("meta") for v in batch[:3]]
    batch = batch._replace(x=moved[0], index=moved[1], mask=moved[2])
    if hasattr(model, "x"):
        model.x = batch.x
    with torch.no_grad():
        for extrapolate in (True, False):
            model.solver._iterate(model, batch, 3, extrapolate=extrapolate)
        terms = model.objective(batch)
    assert all(term.device.type == "meta" for term in terms.values())


def test_graphs_are_refused_on_a_cpu():
    with pytest.raises(UserError, match=r"solver\.loop=graph needs a GPU.* use solver\.loop=eager"):
        make(positive(), **{"solver.loop": "graph"})


def test_compiling_is_refused_without_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler"):
        make(positive(), **{"solver.loop": "compile"})


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_sparse_matrix_is_refused():
    model, _ = make(positive(), **{"solver.loop": "compile"})
    with pytest.raises(UserError, match=r"solver\.loop=compile needs a dense X"):
        check_solver(model.solver, task_of(model)._replace(sparse=True))


def test_a_typo_is_refused():
    with pytest.raises(UserError, match="eager"):
        make(positive(), **{"solver.loop": "graphs"})


def test_work_is_recorded_the_second_time_and_replayed_from_then_on(monkeypatch):
    """With a stand-in for CUDA graphs: recording does the work once more, but not for real."""
    done: list[str] = []

    class Graph:
        def replay(self):
            done.append("replayed")

    @contextmanager
    def recording(graph):
        done.append("recording")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    recorder = loops.Recorder()
    for _ in range(3):
        recorder("a", lambda: done.append("work"))
    assert done == ["work", "recording", "work", "replayed", "replayed"]
    for name in "bcde":  # no more than MOST are kept
        recorder(name, lambda: done.append("other"))
    assert len(recorder.graphs) <= recorder.MOST


def test_memory_is_told_apart():
    a = torch.zeros(4, 3)
    assert loops.place(a) == loops.place(a.view(4, 3))
    assert len({loops.place(v) for v in (a, a.mT, a[1:], a.clone(), None)}) == 5


def test_extrapolation_is_nesterovs():
    t, wanted = 1.0, []
    for _ in range(5):
        after = (1 + np.sqrt(1 + 4 * t * t)) / 2
        wanted.append((t - 1) / after)
        t = after
    np.testing.assert_allclose(loops.extrapolations(5), wanted)
    assert loops.extrapolations(0) == []


# ---------------------------------------------------------------------- compiled
COMPILED = {
    "masked": {"model": "nmf", "loss": "frobenius", "penalty": "l1", "n_restarts": 3},
    "deep": {**MULTILINEAR["ae-deep"], "loss": "itakura_saito"},  # by autograd
}


@pytest.mark.slow
def test_compiled_iterations_give_the_same_numbers(tmp_path):
    """In a process without shape checks, which cannot be compiled; 23 = two blocks and a rest."""
    if not loops.has_compiler():
        pytest.skip("no C++ compiler")
    here = Path(__file__).parent
    environment = os.environ | {
        "PYTHONPATH": f"{here.parent}{os.pathsep}{here}",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, __file__],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == list(COMPILED)


def compare(case):
    X = planted(20, 12)[0] + positive(20, 12) / 10
    mask = some_mask(*X.shape) if case == "masked" else None
    found = []
    for loop in ("eager", "compile"):
        settings = {"solver": "mu", "solver.loop": loop, **COMPILED[case]}
        model, batch = make(X, mask=mask, **settings)
        objective = [advance(model, batch, 23) for _ in range(2)][-1]
        found.append({"objective": objective, **values(model)})
    for name, wanted in found[0].items():
        torch.testing.assert_close(found[1][name], wanted, rtol=1e-8, atol=1e-12)


if __name__ == "__main__":
    for one in COMPILED:
        compare(one)
        print(one)
