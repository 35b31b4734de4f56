"""Runs whose headline is the perplexity of completed documents."""

from __future__ import annotations

from report_runs import make_run

from nmfnet.report.collect import collect
from nmfnet.report.terms import groups_of, refusals
from nmfnet.run.measures import main_measure

COMPLETED = {"split": "completion"}


def test_completed_documents_are_compared_whatever_was_minimised(tmp_path):
    for loss, model in (("kl", "nmf"), ("own", "lda")):
        config = {"split": {"_target_": "nmfnet.data.CompletionSplit"}}
        make_run(
            tmp_path, loss, model=model, metrics={"test/perplexity": 900.0, "test/loss": None},
            choices={**COMPLETED, "loss": loss}, config=config,
        )  # fmt: skip
    (group,) = groups_of(collect(tmp_path))
    assert len(group.runs) == 2
    assert group.main == "test/perplexity"
    assert "documents completed" in group.name


def test_perplexities_are_never_ranked_against_errors(tmp_path):
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", model="lda", metrics={"test/perplexity": 9.0}, choices=COMPLETED)
    groups = groups_of(collect(tmp_path))
    assert [len(group.runs) for group in groups] == [1, 1]
    assert {group.main for group in groups} == {"test/relative_error", "test/perplexity"}
    assert any("split" in said for said in refusals(groups))
    other = {**COMPLETED, "loss": "kl"}
    other_smoothing = {"split": {"_target_": "nmfnet.data.CompletionSplit", "smoothing": 0.1}}
    make_run(
        tmp_path, "c", model="nmf", metrics={"test/perplexity": 8.0}, choices=other,
        config=other_smoothing,
    )  # fmt: skip
    assert len(groups_of(collect(tmp_path))) == 3


def test_one_run_without_a_perplexity_takes_it_from_the_headline():
    assert main_measure("kl", [{"test/perplexity": 3.0, "test/loss": 1.0}, {"test/loss": 1.0}]) == (
        "test/loss"
    )
