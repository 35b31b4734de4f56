"""``nmfnet check``: every choice of ``conf/model`` keeps its promises, and planted faults are named."""

from __future__ import annotations

import sys

import pytest
from hydra.utils import get_class
from shell import nmfnet

from nmfnet.config import options
from nmfnet.run.check import PROMISES, check
from nmfnet.settings.words import configuration

QUICK = ("nmf", "sym_nmf")
EVERY = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in options("model")
]


@pytest.mark.quick("sym_nmf")
@pytest.mark.parametrize("model", EVERY)
def test_every_model_keeps_its_promises(model):
    asked = {"model": model}
    if get_class(configuration(asked).model["_target_"]).inductive:
        asked["max_iter"] = 100  # codes are a function of the row, after any number of steps
    found = list(check(configuration(asked), asked))
    assert [one.words for one in found] == [promise.words for promise in PROMISES]
    assert {one.words: one.seen for one in found if one.state == "FAILED"} == {}


# ---------------------------------------------------------------------- a model of one's own
MODEL = '''
"""A model in a file of the user's."""

from nmfnet.core.model import Factorization
from nmfnet.kernels.refit import refit_W


class Mine(Factorization):
    """X ~ W H + b."""

    inductive = False

    def __init__(self, parts, *, n_components: int = 3):
        super().__init__(parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.H = self.factor("H", "component", "feature")
        self.b = self.factor("b", "one", "feature")

    def encode(self, batch):
        return self.W()[..., batch.index, :]

    def decode(self, W):
        return W @ self.H() + self.b()
'''

FAULTS = {
    "right": ("", {}),
    "infer": (
        """
    def infer(self, batch):
        return refit_W(batch.x, self.H(), 2.0, 1.0)
""",
        {"transform(X_train) is the training code": "does not minimise the model's own objective"},
    ),
    "sums": (
        """
    def sums(self, name, batch, beta):
        if name != "H":
            return None
        return self.W().mT @ batch.x, self.W().mT @ (self.W() @ self.H())
""",
        {"its own sums are those of its decoder": "sums('H') is off by"},
    ),
    "rows": (
        """
    inductive = True

    def __init__(self, parts, *, n_components: int = 3):
        Factorization.__init__(self, parts, n_components=n_components)
        self.H = self.factor("H", "component", "feature", degree=2)

    def decode(self, W):
        return W @ self.H()

    def encode(self, batch):
        return (batch.x / batch.x.sum(-2, keepdim=True)) @ self.H().mT
""",
        {
            "new rows do not depend on each other": "encode or infer reads other rows",
        },
    ),
    "axes": (
        """
    def __init__(self, parts, *, n_components: int = 3):
        Factorization.__init__(self, parts, n_components=n_components)
        self.W = self.factor("W", "sample", "component")
        self.G = self.factor("G", 7, "feature")
        self.M = self.factor("M", "component", 7)
        self.b = self.factor("b", "one", "feature")

    def decode(self, W):
        return W @ self.M() @ self.G() + self.b()
""",
        {"every axis of a factor has a name": "the factor G (7 x 12) has an axis without a name"},
    ),
    "bits": (
        """
    def start(self, proposal, batch):
        import torch

        for factor in self.factors.values():
            factor.assign_(torch.rand(factor.raw.shape))
""",
        {"the same seed gives the same bits": "draw from self.generators"},
    ),
    "code": (
        """
    code = "simplex"
""",
        {"codes are what code= says": "codes sum to 1 within"},
    ),
    "raises": (
        """
    def decode(self, W):
        return W @ self.H() + self.offset_of_mine
""",
        {"it builds, and starts on these data": "no attribute 'offset_of_mine' (mine.py, line "},
    ),
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes the user's model with a fault; what it imports is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# @package _global_\nmodel: {_target_: mine.Mine, n_components: 5}\n"
    )

    def write(fault: str) -> None:
        sys.modules.pop("mine", None)
        (tmp_path / "mine.py").write_text(MODEL + fault)

    yield write
    sys.modules.pop("mine", None)


@pytest.mark.quick("infer", "sums", "raises")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault, mine, tmp_path):
    code, wanted = FAULTS[fault]
    mine(code)
    done = nmfnet(
        "check", "model=mine", "--config-dir", str(tmp_path), "max_iter=1000", cwd=tmp_path
    )
    assert done.code == (1 if wanted else 0), done.out + done.err
    failed = [line for line in done.out.splitlines() if "FAILED" in line]
    for words, seen in wanted.items():
        assert any(line.startswith(words) and seen in line for line in failed), done.out
    assert f"{len(failed)} broken" in done.out
    assert bool(failed) == bool(wanted)
    assert [name for name in done.new if "__pycache__" not in name] == []


def test_bad_input_is_refused_in_one_sentence(mine, tmp_path):
    mine("")
    for words, message in (
        (["model=mien", "--config-dir", "."], "model='mien': no such choice; did you mean 'mine'?"),
        (["model=mine"], "model='mine': no such choice"),
        (["loss=kl"], "say which model: nmfnet check model=NAME"),
        (["model=mine", "--config-dir", "nowhere"], "there is no such folder"),
        (["model=nmf", "solver.lr"], "write settings as key=value"),
        (["model=nmf", "n_componants=3"], "did you mean 'n_components'?"),
    ):
        done = nmfnet("check", *words, cwd=tmp_path)
        assert done.code == 2
        assert message in done.err
        assert done.out == ""
