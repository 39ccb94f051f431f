"""The report's page, read back by a parser: numbers, players, charts, nothing else."""

import base64
import io
import math
import re
import wave
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments import figures
from experiments.report import write_report
from experiments.report_media import PEAK
from experiments.report_tables import METRICS, MODELS, QUERIES, duration, number

RATE = 8_000
GRID_HZ = np.geomspace(50.0, 3_900.0, 24)
# Elements that HTML never closes.
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects table rows, links, sounds and texts, and checks the nesting."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.addresses, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data + "|"


def scores(base):
    values = {metric: base + n for n, metric in enumerate(METRICS)}
    ends = {metric: [v - 0.25, v + 0.375] for metric, v in values.items()}
    return values | {"ci95": ends}


@pytest.fixture(scope="module")
def summary():
    paired = {"mean": 0.012, "ci95": [0.004, 0.02]}
    lower = {"mean": -0.04, "ci95": [-0.09, 0.01]}
    return {
        "wall_s": 725.0,
        "dataset": {
            "dataset": "instruments",
            "num_classes": 18,
            "counts": {"train": 1440, "unseen": 216},
            "licences": {"font <one>": "MIT"},
        },
        "stages": [
            {"name": "align-1", "wall_s": 60.0, "metrics": {"align/loss": 1.25}},
            {"name": "rl", "wall_s": 125.0, "metrics": {"eval/si_sdri_db": 5.5}},
        ],
        "evaluation": {
            model: {kind: scores(m + 0.1 * k) for k, kind in enumerate(QUERIES)}
            for m, model in enumerate(MODELS)
        },
        "paired": {
            "rl_vs_continued": {
                "text": {"judge": paired, "si_sdri_db": lower},
                "audio": {"judge": {"mean": 0.001, "ci95": [-0.01, 0.012]}},
                "image": {"judge": {"mean": -0.03, "ci95": [-0.04, -0.02]}},
            }
        },
    }


@pytest.fixture(scope="module")
def curves():
    rows = [
        {"step": step, "wall_s": 0.5 * step, "supervised/loss": 1 / (1 + step)}
        for step in range(1_000)
    ]
    rows += [{"step": s, "wall_s": s, "eval/si_sdri_db": s / 100} for s in (0, 500)]
    rl = [{"step": s, "reward/mean": math.nan if s == 3 else 0.1 * s} for s in range(9)]
    return {"supervised": rows, "rl": rl}


@pytest.fixture(scope="module")
def examples():
    time = np.arange(RATE) / RATE
    target, other = (
        0.4 * np.sin(2 * np.pi * hz * time).astype(np.float32) for hz in (440, 1_200)
    )
    estimates = {"text": target + 0.1 * other, "audio": target, "image": 2.5 * target}
    return [
        {
            "title": "Flute & <violin>",
            "query": "a flute",
            "rate": RATE,
            "mixture": target + other,
            "target": target,
            "estimates": estimates,
            "mask": np.linspace(0, 1, 24 * 30).reshape(24, 30),
            "grid_hz": GRID_HZ,
        }
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory, summary, curves, examples):
    folder = tmp_path_factory.mktemp("run") / "quickstart"
    path = write_report(folder, summary, curves, examples)
    assert path == folder / "report.html"
    assert [p.name for p in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_elements_are_closed_in_order(page):
    assert page.open == []


def test_nothing_is_fetched(text, page):
    assert page.addresses
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert "//" not in re.sub(r"data:[a-z]+/[a-z]+;base64,[A-Za-z0-9+/=]*", "", text)
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {
        f"#{name}" for name in re.findall(r'id="([^"]*)"', text)
    }


def test_texts_from_outside_are_escaped(text, page):
    assert "Flute & <violin>" in page.texts
    assert "<violin>" not in text
    assert "Licences: font <one>" in page.texts


def test_results_are_the_summarys(page, summary):
    names = list(MODELS.values())
    rows = [row for row in page.rows if len(row) == 1 + len(METRICS)][1:]
    assert len(rows) == len(QUERIES) * len(MODELS)
    cells = iter(rows)
    for kind in QUERIES:
        for model, name in zip(MODELS, names, strict=True):
            row = next(cells)
            given = summary["evaluation"][model][kind]
            assert row[0] == f"{name}|"
            for cell, (metric, (_, decimals)) in zip(
                row[1:], METRICS.items(), strict=True
            ):
                value, ends = cell.replace("−", "-").rstrip("|").split("|")
                assert float(value) == round(given[metric], decimals)
                low, high = given["ci95"][metric]
                assert ends == f"{low:.{decimals}f} to {high:.{decimals}f}"


def test_differences_are_the_summarys(page):
    rows = {tuple(row) for row in page.rows}
    assert ("Words|", "+0.012|", "+0.004 to +0.020|", "") in rows
    assert ("Words|", "−0.04|", "−0.09 to +0.01|", "") in rows
    assert ("A picture|", "−0.030|", "−0.040 to −0.020|", "") in rows


def test_verdict_claims_only_what_the_intervals_show(page):
    (verdict,) = [t for t in page.texts if "mixture by mixture" in t]
    assert "above zero for words;" in verdict
    assert "not distinguishable from zero for a clip" in verdict
    assert "below zero, as when a reward is exploited, for a picture" in verdict


def test_forest_interval_and_zero_line_do_not_lie(text):
    """The widest end of the judge's column is -0.04: it is drawn at -92."""
    spans = re.findall(r'class="span" x1="([-\d.]+)" x2="([-\d.]+)"', text)
    scale = 92 / 0.04
    expected = [(0.004, 0.02), (-0.01, 0.012), (-0.04, -0.02)]
    for (x1, x2), (low, high) in zip(spans, expected, strict=False):
        # Two decimals are written.
        assert float(x1) == pytest.approx(scale * low, abs=0.006)
        assert float(x2) == pytest.approx(scale * high, abs=0.006)


def test_players_hold_the_waveforms_with_one_gain(page, examples):
    (example,) = examples
    prefix = "data:audio/wav;base64,"
    sounds = [a for a in page.addresses if a.startswith(prefix)]
    given = [example["mixture"], example["target"], *example["estimates"].values()]
    gain = PEAK / max(np.abs(sound).max() for sound in given)
    for address, waveform in zip(sounds, given, strict=True):
        with wave.open(io.BytesIO(base64.b64decode(address[len(prefix) :]))) as file:
            assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        # Half a step of 16-bit rounding, and float32 arithmetic.
        np.testing.assert_allclose(data / 32_767, gain * waveform, atol=1.6e-5)


def test_charts_are_drawn_for_what_was_logged(text):
    charts = re.findall(r'<svg role="img" aria-label="([^"]*)"', text)
    assert charts[:3] == ["Separation while learning", "Validation", "Reward"]
    assert charts[3:] == [
        "Spectrogram: mixture",
        "Mask",
        "Spectrogram: estimate",
        "Spectrogram: target",
    ]


def test_drawings_take_the_pages_colours(text):
    assert not set(figures.PLACEHOLDERS.values()) & set(
        re.findall("#[0-9a-f]{6}", text)
    )
    for name in figures.PLACEHOLDERS:
        assert f"--{name}:" in text


def test_sentences_name_what_was_trained(page):
    said = "".join(page.texts)
    assert "instruments: 18 classes of sound, 1\u202f440 clips for training" in said
    assert "12 min 05 s" in said
    assert "SI-SDRi\xa05.50\xa0dB" in said


def test_reduced_data_set_is_announced(tmp_path):
    path = write_report(tmp_path, {"dataset": {"reduced": True}}, {}, [])
    assert "reduced data set" in path.read_text()


def test_empty_run_still_makes_a_page(tmp_path):
    page = Page(write_report(tmp_path, {}, {}, []).read_text())
    assert page.open == []
    assert page.rows == []


def test_equal_input_gives_an_equal_page(tmp_path, text, summary, curves, examples):
    assert write_report(tmp_path, summary, curves, examples).read_text() == text


def test_failure_leaves_the_old_report(tmp_path, summary, curves, examples):
    path = write_report(tmp_path, {}, {}, [])
    before = path.read_text()
    broken = [examples[0] | {"mask": np.zeros(3)}]
    with pytest.raises(IndexError):
        write_report(tmp_path, summary, curves, broken)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_spectrogram_rows_are_frequencies():
    time = np.arange(RATE) / RATE
    for hz in (200.0, 1_000.0, 3_000.0):
        tone = np.sin(2 * np.pi * hz * time)
        level = figures.grid_level_db(tone, RATE, GRID_HZ, 10, 1.0)
        nearest = np.abs(np.log(GRID_HZ / hz)).argmin()
        assert level.shape == (24, 10)
        assert (level[:, 2:8].argmax(axis=0) == nearest).all()


def test_loudest_point_is_the_reference():
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    loudest = figures.peak_magnitude(tone, RATE, GRID_HZ)
    level = figures.grid_level_db(tone, RATE, GRID_HZ, 256, loudest)
    assert level.max() == pytest.approx(0.0, abs=1e-9)  # float64 rounding


def test_running_mean_by_hand():
    values = np.arange(72.0)
    mean = figures.running_mean(values)
    # 72 // 24 = 3 neighbours each side; a straight line is its own mean inside.
    np.testing.assert_allclose(mean[3:-3], values[3:-3], atol=1e-12)
    assert mean[0] == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert mean[-1] == pytest.approx((68 + 69 + 70 + 71) / 4)
    assert figures.running_mean(values[:59]).tolist() == values[:59].tolist()


def test_points_keep_the_last_and_drop_what_is_not_finite():
    rows = [{"step": n, "loss": float(n)} for n in range(2_000)]
    rows += [{"step": 2_000, "loss": math.inf}, {"step": 2_001}, {"loss": 1.0}]
    steps, losses = figures.points(figures.Line(rows, "loss", "", "rl"))
    assert len(steps) <= figures.MAX_POINTS + 1
    assert steps[-1] == 1_999
    assert (steps == losses).all()


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.5, "−0.50"), (1.005, "1.00"), (None, "–"), (math.nan, "–")]
)
def test_numbers(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(59.4, "59 s"), (59.6, "1 min 00 s"), (7_320, "2 h 2 min")]
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown
