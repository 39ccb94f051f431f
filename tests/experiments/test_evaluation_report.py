"""What a page about an evaluation says, with scores that are known."""

import re

import jax
import numpy as np
import pytest

from experiments import score_batches
from experiments.evaluation_charts import (
    MAX_BARS,
    class_bars,
    class_scores,
    rank_correlation,
    scatter,
)
from experiments.evaluation_plan import make_plan
from experiments.evaluation_record import make_record, render_text
from experiments.evaluation_report import write_evaluation_report
from experiments.score_rows import RowsFile, collect, read_all
from tests.support.random_models import save_mixtures, save_random_model

NUM_SAMPLES = 2_047


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Return a plan, its record and its scores: 7 mixtures, an untrained model."""
    folder = tmp_path_factory.mktemp("report")
    manifest = save_mixtures(folder, 7, NUM_SAMPLES)
    checkpoint = str(save_random_model(folder / "model", NUM_SAMPLES))
    plan = make_plan(
        checkpoint=checkpoint,
        manifest=str(manifest),
        kinds=("text", "negative"),
        judge_names=("own",),
        compare=checkpoint,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_batches, "BATCH_SIZE", 2)
        with RowsFile(folder / "rows", plan.run) as file:
            score_batches.score(plan.work, file, range(4), devices=jax.devices()[:1])
        found = collect(read_all([folder / "rows"], plan.run, 4), plan.names)
    flags = {"checkpoint": checkpoint, "compare": checkpoint, "mask": "mode"}
    flags["manifest"] = str(manifest)
    return plan, make_record(plan, found, flags), found


def test_page(evaluated, tmp_path):
    plan, record, found = evaluated
    write_evaluation_report(tmp_path / "page.html", plan, record, found)
    page = (tmp_path / "page.html").read_text()
    # Nothing is fetched; what is heard lies in the page.
    assert "://" not in page.replace("http://www.w3.org/", "")
    assert page.count('src="data:audio/wav;base64,') == 4 * (2 + 2)
    systems = re.findall(r'<th scope="row"><span class="key"[^>]*>([^<]*)<', page)
    assert systems == ["mixture", *[record["checkpoint"]] * 4]
    order = found["model"].evaluation.scores["text"]["si_sdri_db"]
    titles = re.findall(r"<h3>unseen-[^<]*: SI-SDRi ([^<]*) dB</h3>", page)
    values = [float(title.replace("−", "-")) for title in titles]
    ranks = np.sort(order[np.isfinite(order)])
    np.testing.assert_allclose(values, ranks[[-1, -2, 0, 1]], atol=0.006)
    assert f"held-out classifier of {record['checkpoint']}" in page
    assert "Rank correlation" in page
    assert "high tone (" in page


def test_text_names_the_judge_and_begins_with_the_mixture(evaluated):
    lines = list(render_text(evaluated[1]))
    assert lines[0] == "7 mixtures of synthetic, unseen"
    assert lines[1].split()[:3] == ["query", "SI-SDR", "SI-SDRi"]
    assert lines[2].startswith("mixture")
    assert any(line.startswith("judge: held-out classifier of") for line in lines)


def test_a_model_is_as_good_as_itself(evaluated):
    for metrics in evaluated[1]["paired"].values():
        for pair in metrics.values():
            assert (pair["mean"], pair["wilcoxon_p"]) == (0, 1)
            assert (pair["ci95"], pair["share_higher"]) == ([0, 0], 0)


def test_classes_are_averaged_and_ordered():
    score = np.array([[1.0, 5.0], [3.0, np.nan], [7.0, 0.5]])
    label = np.array([[0, 2], [0, 2], [2, 1]])
    found = class_scores(score, label, ["a", "b", "c", "d"])
    assert [(e.name, e.mean, e.num_targets) for e in found] == [
        ("c", 6.0, 2),
        ("a", 2.0, 2),
        ("b", 0.5, 1),
    ]
    assert (found[1].low, found[1].high) == (1.0, 3.0)
    drawn = class_bars(found, "dB")
    assert [name in drawn for name in ("a (2)", "b (1)", "c (2)", "d (")] == [
        *[True] * 3,
        False,
    ]
    assert class_bars([], "dB") == ""


def test_of_many_classes_the_ends_are_drawn():
    names = [f"class-{n:03d}" for n in range(100)]
    score, label = np.arange(100.0)[:, None], np.arange(100)[:, None]
    drawn = class_bars(class_scores(score, label, names), "dB")
    shown = re.findall(r"class-(\d+)", re.sub(r"<!--.*?-->", "", drawn))
    ends = {*range(MAX_BARS // 2), *range(100 - MAX_BARS // 2, 100)}
    assert {int(number) for number in shown} == ends


def test_scatter_and_its_correlation():
    x = np.array([1.0, 2.0, 3.0, np.nan, 4.0])
    y = np.array([1.0, 8.0, 27.0, 5.0, np.nan])
    assert rank_correlation(x, y) == pytest.approx(1.0)
    assert rank_correlation(x, -y) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(np.ones(5), y))
    assert scatter(x, y, "SI-SDR", "judge").startswith("<svg")
    assert scatter(x[:1], y[:1], "SI-SDR", "judge") == ""
