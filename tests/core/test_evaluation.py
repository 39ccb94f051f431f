"""Evaluation against estimates whose scores are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig
from marssep_jax.evaluation import (
    EvaluationMixture,
    as_metrics,
    compare,
    evaluate_mixtures,
    items,
    make_separate_fn,
    per_mixture,
    summarise,
)
from marssep_jax.features import make_frontend
from marssep_jax.metrics import bss_eval, si_sdr
from marssep_jax.policy import beta_policy

LENGTH, NUM_CLASSES = 3_000, 4


def tone(cycles, level=1.0):
    return level * np.sin(2 * np.pi * cycles * np.arange(LENGTH) / LENGTH)


def make_mixture(index, *, level=1.0, image=True, silent=False, absent=True):
    """Two tones with classes 0 and 1; queries are one-hot by target and kind."""
    target = np.stack([tone(50, level), tone(120 + index)]).astype(np.float32)
    if silent:
        target[1] = 0
    hot = np.eye(3, dtype=np.float32)
    queries = {kind: hot[:2] for kind in ("text", "audio", "image", "composed")}
    if not image:
        queries["image"] = np.stack([hot[0], np.zeros(3, np.float32)])
    return EvaluationMixture(
        f"m{index}", target, np.array([0, 1]), queries, hot[2] if absent else None
    )


def separate_by(gains):
    """Return target k plus gains[k] of the other; asked for neither, a tenth of all.

    The mixtures are known here, so estimates are made from the truth: queries
    [b, k, 3] are one-hot over (first, second, absent).
    """
    low = np.zeros(LENGTH // 2 + 1)
    low[:80] = 1

    def separate(mixture, query):
        first = jnp.fft.irfft(jnp.fft.rfft(mixture) * low[None], LENGTH)
        second = mixture - first
        sounds = jnp.stack(
            [first + gains[0] * second, second + gains[1] * first, 0.1 * mixture],
            axis=1,
        )
        return jnp.einsum("bkd,bdt->bkt", query, sounds)

    return separate


def judge(waveform):
    """Say class 1 where the energy is above bin 80, else class 0, 90 % sure."""
    spectrum = jnp.abs(jnp.fft.rfft(waveform))
    high = spectrum[..., 80:].sum(-1) > spectrum[..., :80].sum(-1)
    index = jnp.where(high, 1, 0)
    sure = jax.nn.one_hot(index, NUM_CLASSES) * (0.9 - 0.1 / 3) + 0.1 / 3
    return jnp.log(sure)


def evaluate(mixtures, gains=(0.1, 0.1), **options):
    return evaluate_mixtures(
        separate_by(gains), judge, mixtures, **{"batch_size": 4, "bss": 0} | options
    )


def test_scores_of_known_leakage():
    result = evaluate([make_mixture(0), make_mixture(1)])
    for kind in ("text", "audio", "image", "composed"):
        # Orthogonal tones of equal power: leakage 0.1 is 20 dB, the mixture 0 dB.
        for name in ("si_sdr_db", "si_sdri_db", "sdr_db", "sdri_db"):
            np.testing.assert_allclose(result.scores[kind][name], 20.0, atol=0.01)
        np.testing.assert_allclose(result.scores[kind]["judge"], np.log(0.9), atol=1e-5)
        assert (result.scores[kind]["judge_accuracy"] == 1).all()
    # A tenth of both tones, against one tone with a hundredth: 0.02 / 1.01.
    wanted = 10 * np.log10(0.02 / 1.01)
    np.testing.assert_allclose(result.scores["text"]["absent_db"], wanted, atol=0.01)
    assert "absent_db" not in result.scores["audio"]


def test_only_the_scored_beginning_counts():
    """Estimates are made of whole mixtures; what lies behind is not looked at."""
    half = LENGTH // 2
    mixtures = [make_mixture(0), make_mixture(1)]
    whole = evaluate(mixtures, gains=(0.1, 0.3))

    def spoiled(mixture, query):
        found = separate_by((0.1, 0.3))(mixture, query)
        return found.at[..., half:].set(7.0)

    cut = [mixture._replace(scored_samples=half) for mixture in mixtures]
    found = evaluate_mixtures(spoiled, None, cut, batch_size=4, bss=0)
    # Both halves of these tones are alike.
    for name in ("si_sdr_db", "sdr_db", "sdri_db"):
        np.testing.assert_allclose(
            found.scores["text"][name], whole.scores["text"][name], atol=0.05
        )


def test_judge_hears_what_was_kept():
    result = evaluate([make_mixture(0)], gains=(10.0, 0.1))  # the first is swamped
    np.testing.assert_array_equal(result.scores["text"]["judge_accuracy"], [[0.0, 1.0]])
    assert result.scores["text"]["judge"][0, 0] == pytest.approx(np.log(0.1 / 3))


def test_a_margin_is_above_the_other_targets_of_the_mixture():
    """Kept alone, a tone is 0.9 likely and the other one a third of a tenth."""
    result = evaluate([make_mixture(0)], gains=(10.0, 0.1))
    margin = np.log(0.9) - np.log(0.1 / 3)
    expected = [[-margin, margin]]
    np.testing.assert_allclose(
        result.scores["text"]["judge_margin"], expected, atol=1e-4
    )


def test_targets_of_one_class_have_no_margin():
    mixture = make_mixture(0)
    alike = mixture._replace(label=np.full_like(mixture.label, mixture.label[0]))
    scores = evaluate([alike]).scores["text"]
    assert np.isnan(scores["judge_margin"]).all()
    assert np.isfinite(scores["judge"]).all()


def test_further_judges_have_names_of_their_own():
    """A judge that calls the two classes by each other's names is always wrong."""

    def contrary(waveform):
        return judge(waveform)[..., jnp.asarray([1, 0, 2, 3])]

    more = {"contrary": contrary}
    scores = evaluate([make_mixture(0)], more_judges=more).scores["text"]
    assert (scores["judge_accuracy"] == 1).all()
    assert (scores["judge_contrary_accuracy"] == 0).all()
    np.testing.assert_allclose(scores["judge_contrary"], np.log(0.1 / 3), atol=1e-5)
    plain = evaluate([make_mixture(0)]).scores["text"]
    assert not any(name.startswith("judge_c") for name in plain)


def test_classes_that_a_judge_cannot_name_are_not_scored():
    def knows_the_first(waveform):
        return judge(waveform).at[..., 1].set(-jnp.inf)

    more = {"half": knows_the_first}
    scores = evaluate([make_mixture(0)], more_judges=more).scores["text"]
    for name in ("judge_half", "judge_half_accuracy"):
        assert np.isnan(scores[name]).tolist() == [[False, True]]
    assert np.isnan(scores["judge_half_margin"]).all()  # above what it cannot name
    assert np.isfinite(scores["judge"]).all()


def test_ratios_of_the_first_batches_only():
    mixtures = [make_mixture(n) for n in range(5)]
    some = evaluate(mixtures, bss=2, batch_size=2).scores["text"]
    every = evaluate(mixtures, bss=None, batch_size=2).scores["text"]
    for name in ("sir_db", "sar_db"):
        np.testing.assert_array_equal(some[name][:2], every[name][:2])
        assert np.isnan(some[name][2:]).all()
    np.testing.assert_array_equal(some["si_sdr_db"], every["si_sdr_db"])


def test_sdr_sir_sar_are_bss_evals_of_images():
    mixture = make_mixture(0)
    noise = np.random.default_rng(0).normal(0, 0.3, (2, LENGTH)).astype(np.float32)
    noisy = mixture._replace(target=mixture.target + noise)
    result = evaluate([noisy], bss=None, batch_size=1)
    estimate = separate_by((0.1, 0.1))(
        jnp.asarray(noisy.target.sum(0))[None], jnp.eye(3)[None, :2]
    )
    direct = bss_eval(estimate, jnp.asarray(noisy.target)[None], variant="images")
    for name in ("sdr", "sir", "sar"):
        found = result.scores["audio"][f"{name}_db"]
        np.testing.assert_allclose(found, getattr(direct, name), atol=0.02)


def test_last_batch_is_filled_and_cut_again():
    calls = []

    def separate(mixture, query):
        calls.append((mixture.shape[0], query.shape[1]))
        return separate_by((0.1, 0.3))(mixture, query)

    mixtures = [make_mixture(i, level=1 + 0.1 * i) for i in range(5)]
    batched = evaluate_mixtures(separate, None, iter(mixtures), batch_size=4, bss=0)
    # One pass a mixture: four kinds of two queries, and the absent class.
    assert calls == [(4, 9), (4, 9)]
    alone = evaluate(mixtures, gains=(0.1, 0.3), batch_size=1)
    assert batched.names == alone.names == ("m0", "m1", "m2", "m3", "m4")
    np.testing.assert_allclose(
        batched.scores["text"]["si_sdr_db"],
        alone.scores["text"]["si_sdr_db"],
        atol=1e-4,
    )


def test_missing_modality_and_silent_target_are_not_scored():
    result = evaluate(
        [make_mixture(0, image=False), make_mixture(1, silent=True, absent=False)]
    )
    np.testing.assert_array_equal(
        np.isnan(result.scores["image"]["si_sdr_db"]), [[False, True], [False, True]]
    )
    assert np.isnan(result.scores["text"]["si_sdr_db"]).tolist() == [
        [False, False],
        [False, True],
    ]
    assert np.isnan(result.scores["text"]["absent_db"]).tolist() == [[False], [True]]
    summary = summarise(result)
    assert summary["text"]["skipped_silent"] == 1
    assert (summary["text"]["n"], summary["image"]["n"]) == (3, 2)
    assert summary["text"]["num_mixtures"] == 2
    assert len(list(items(result))) == 3 + 3 + 2 + 3


def test_kind_that_nobody_can_be_asked_is_left_out():
    mixture = make_mixture(0)
    mixture.queries["image"] = np.zeros_like(mixture.queries["image"])
    assert set(summarise(evaluate([mixture]))) == {"text", "audio", "composed"}


def test_summary_has_means_and_intervals_over_mixtures():
    mixtures = [make_mixture(i, level=0.5 + 0.25 * i) for i in range(6)]
    result = evaluate(mixtures, gains=(0.1, 0.3))
    scores = summarise(result)["text"]
    means = result.scores["text"]["si_sdri_db"].mean(axis=1)
    assert scores["si_sdri_db"] == pytest.approx(means.mean())
    low, high = scores["ci95"]["si_sdri_db"]
    assert means.min() <= low < scores["si_sdri_db"] < high <= means.max()
    assert set(scores["ci95"]) == set(scores) - {
        "n",
        "num_mixtures",
        "skipped_silent",
        "ci95",
    }


def test_paired_comparison():
    mixtures = [make_mixture(i, level=0.5 + 0.25 * i) for i in range(6)]
    better, worse = evaluate(mixtures), evaluate(mixtures, gains=(0.2, 0.2))
    pair = compare(better, worse)["text"]["si_sdri_db"]
    # Twice the leakage is 6.02 dB on every item: the spread of the items cancels.
    assert pair["mean"] == pytest.approx(20 * np.log10(2), abs=0.01)
    np.testing.assert_allclose(pair["ci95"], pair["mean"], atol=0.01)
    assert pair["num_mixtures"] == 6
    backwards = compare(worse, better)["text"]["si_sdri_db"]
    assert backwards["mean"] == pytest.approx(-pair["mean"])


def test_only_the_same_mixtures_can_be_compared():
    first, second = evaluate([make_mixture(0)]), evaluate([make_mixture(1)])
    with pytest.raises(ValueError, match="second has 1 mixtures, expected the same 1"):
        compare(first, second)


def test_items_carry_what_pairing_needs():
    record = next(items(evaluate([make_mixture(3)])))
    assert record["mixture"] == "m3"
    assert (record["kind"], record["target"], record["label"]) == ("text", 0, 0)
    assert record["si_sdri_db"] == pytest.approx(20, abs=0.01)


def test_metrics_for_the_training_loop():
    metrics = as_metrics(evaluate([make_mixture(0)]))
    assert metrics["eval/si_sdri_db"] == pytest.approx(20, abs=0.01)
    assert metrics["eval/judge"] == pytest.approx(np.log(0.9), abs=1e-4)


def test_per_mixture_ignores_what_was_not_scored():
    values = np.array([[1.0, 3.0], [5.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(per_mixture(values), [2.0, 5.0, np.nan])


def broken_mixture():
    mixture = make_mixture(0)
    mixture.target[0, 5] = np.inf
    return mixture


@pytest.mark.parametrize(
    ("mixtures", "options", "message"),
    [
        ([], {}, "mixtures is empty"),
        ([make_mixture(0)], {"kinds": ["smell"]}, "queries is 'smell', expected text,"),
        ([broken_mixture()], {}, "estimates hold NaN or infinite samples"),
    ],
)
def test_bad_input(mixtures, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(mixtures, **options)


def constant_separation(mask_fn=None):
    """Return the map of a separator whose every logit is its parameter."""
    config = FrontendConfig(
        sample_rate_hz=8_000, num_samples=2_047, n_fft=256, hop=64, num_rows=32
    )

    def apply(params, model_state, log_mag, query, *, train=False):
        shape = (*query.shape[:2], *log_mag.shape[1:])
        return jnp.full(shape, params) + 0 * log_mag[:, None], model_state

    return make_separate_fn(apply, make_frontend(config), 2_047, mask_fn)


def test_separate_fn_applies_the_mode_of_the_mask():
    """A separator of constant logits scales the mixture by sigmoid(logit)."""
    separate = constant_separation()
    mixture = jax.random.normal(jax.random.key(0), (2, 2_047))
    found, mask = separate(jnp.log(3.0), {}, mixture, jnp.zeros((2, 3, 4)))
    np.testing.assert_allclose(mask, 0.75, rtol=1e-6)
    assert found.shape == (2, 3, 2_047)
    wanted = jnp.broadcast_to(0.75 * mixture[:, None], found.shape)
    # STFT and its inverse in float32.
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert float(si_sdr(found, wanted).min()) > 80


def test_separate_fn_applies_another_mask():
    separate = constant_separation(beta_policy(9.0).sample)
    mixture = jax.random.normal(jax.random.key(0), (2, 2_047))
    given = (jnp.log(3.0), {}, mixture, jnp.zeros((2, 3, 4)))
    masks = [separate(*given, jax.random.key(seed))[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])
    # Beta(7.75, 3.25): mean 0.705, standard deviation 0.13.
    assert abs(float(masks[0].mean()) - 7.75 / 11) < 4 * 0.13 / np.sqrt(masks[0].size)
