from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from marssep_jax import quantiles, sampling

KAPPA = 9.0
PROPOSALS = (0.0, 0.001, 0.02, 0.05, 0.15, 0.3, 0.5, 0.65, 0.77, 0.9, 0.97, 1.0)
MILLION = 1_000_000
# Kolmogorov-Smirnov, one million draws: D above this has probability 0.1 % where
# the distribution is the right one. The table's own error (1.6e-4) and the mass on
# the clamped edge (1.5e-4) are inside it.
KS_LIMIT = stats.kstwobign.isf(1e-3) / np.sqrt(MILLION)


def beta(p, kappa=KAPPA):
    return stats.beta(1 + kappa * p, 1 + kappa * (1 - p))


def ks_distance(sample, p, kappa=KAPPA):
    """Largest |empirical - exact| CDF; ties on the clamped edge count in full."""
    level = beta(p, kappa).cdf(np.sort(np.asarray(sample, np.float64)))
    steps = np.arange(len(level) + 1) / len(level)
    return max(np.max(steps[1:] - level), np.max(level - steps[:-1]))


@partial(jax.jit, static_argnums=(1,))
def draw_million(key, kappa, proposal):
    return sampling.draw_by_table(key, jnp.full((MILLION,), proposal), kappa)


@pytest.mark.parametrize("kappa", [1.0, KAPPA, 30.0])
@pytest.mark.parametrize(("seed", "p"), list(enumerate(PROPOSALS)))
def test_table_draws_are_indistinguishable_from_scipy(seed, p, kappa):
    sample = draw_million(jax.random.key(seed), kappa, p)
    assert sample.dtype == jnp.float32
    assert ks_distance(sample, p, kappa) < KS_LIMIT


def test_ks_would_notice_another_kappa_and_a_wide_clamp():
    sample = draw_million(jax.random.key(0), 9.2, 0.3)
    assert ks_distance(sample, 0.3) > KS_LIMIT
    wide = jnp.clip(draw_million(jax.random.key(0), KAPPA, 0.001), 1e-3, 1 - 1e-3)
    assert ks_distance(wide, 0.001) > KS_LIMIT


# (kappa, largest error of the CDF that the module's comments promise)
@pytest.mark.parametrize(
    ("kappa", "bound"), [(1.0, 1e-4), (9.0, 1.7e-4), (30.0, 4e-4), (100.0, 1e-3)]
)
def test_table_error_between_nodes(kappa, bound):
    # Free of chance, so far sharper than KS; P down to 1e-6 and u into both tails.
    tails = np.logspace(-7, -3, 60)
    inner = np.linspace(0.001, 0.999, 60)
    grid = np.concatenate([[0.0], tails, inner, 1 - tails, [1.0]])
    table = quantiles.quantile_table(kappa)
    corners = [
        sampling._corner(quantiles.coordinate(jnp.asarray(grid, jnp.float32)), count)
        for count in table.shape
    ]
    row = sampling.Corner(*(part[:, None] for part in corners[0]))
    column = sampling.Corner(*(part[None, :] for part in corners[1]))
    with jax.numpy_rank_promotion("allow"):
        quantile = np.asarray(sampling._interpolate(table, row, column), np.float64)
    p, u = grid.astype(np.float32)[:, None], grid.astype(np.float32)[None]
    # The quantiles near 1 are rounded to float32: that alone can be a large part
    # of what is left of the tail, so the CDF is taken at both neighbours.
    below, above = quantile - 6e-8, quantile + 6e-8
    error = np.maximum(beta(p, kappa).cdf(below) - u, u - beta(p, kappa).cdf(above))
    assert error.max() < bound


def test_reference_and_table_have_the_same_moments():
    # 50,000 draws: standard error of a mean at most 0.15 / sqrt(5e4) = 6.7e-4 for
    # each sampler; five of the difference.
    proposal = jnp.broadcast_to(
        jnp.asarray(PROPOSALS)[:, None], (len(PROPOSALS), 50_000)
    )
    moments = []
    for draw in (sampling.draw_by_table, sampling.draw_by_rejection):
        mask = jax.jit(draw)(jax.random.key(3), proposal)
        moments.append((jnp.mean(mask, axis=1), jnp.std(mask, axis=1)))
    np.testing.assert_allclose(moments[0], moments[1], atol=5 * 6.7e-4 * 2**0.5)
    exact = [beta(p).mean() for p in PROPOSALS]
    np.testing.assert_allclose(moments[1][0], exact, atol=5 * 6.7e-4)


@pytest.mark.parametrize("draw", [sampling.draw_by_table, sampling.draw_by_rejection])
def test_samples_keep_off_the_ends_of_the_support(draw):
    # At P = 0 one draw in 6,500 would fall below the margin.
    proposal = jnp.repeat(jnp.array([0.0, 1.0]), 100_000)
    mask = jax.jit(draw)(jax.random.key(0), proposal)
    assert jnp.min(mask) == sampling.MASK_MARGIN
    assert jnp.max(mask) == 1.0 - sampling.MASK_MARGIN
    assert 1.0 - jnp.max(mask) == sampling.MASK_MARGIN  # exact in float32


@pytest.mark.parametrize("draw", [sampling.draw_by_table, sampling.draw_by_rejection])
def test_no_gradient_passes_through_a_sample(draw):
    proposal = jnp.array([0.0, 0.4, 1.0])
    grad = jax.grad(lambda p: jnp.sum(draw(jax.random.key(0), p, KAPPA)))(proposal)
    np.testing.assert_array_equal(grad, 0.0)


def test_broken_proposal_stays_visible():
    proposal = jnp.array([jnp.nan, 0.5, 1.0 + 1e-6, -1e-6])
    mask = sampling.draw_by_table(jax.random.key(0), proposal, KAPPA)
    np.testing.assert_array_equal(jnp.isnan(mask), [True, False, False, False])


def test_bfloat16_proposal_gives_float32_masks():
    proposal = jnp.array([0.0, 0.996, 1.0], jnp.bfloat16)
    mask = sampling.draw_by_table(jax.random.key(0), proposal, KAPPA)
    assert mask.dtype == jnp.float32


def test_shared_noise_keeps_every_bins_marginal():
    # 5 x 7 is no multiple of 2 x 3. Of 35 bins tested at 0.1 % / 35 each.
    num_draws, shape = 20_000, (5, 7)
    proposal = jax.random.uniform(jax.random.key(7), shape)
    keys = jax.random.split(jax.random.key(8), num_draws)
    draw = partial(sampling.draw_by_table, noise_patch=(2, 3))
    masks = np.asarray(jax.jit(jax.vmap(draw, (0, None)))(keys, proposal))
    limit = stats.kstwobign.isf(1e-3 / 35) / np.sqrt(num_draws)
    for row, column in np.ndindex(*shape):
        p = float(proposal[row, column])
        assert ks_distance(masks[:, row, column], p) < limit


def test_noise_is_one_within_a_patch_and_independent_between():
    proposal = jax.random.uniform(jax.random.key(7), (5, 7), minval=0.1, maxval=0.9)
    keys = jax.random.split(jax.random.key(9), 2_000)
    draw = partial(sampling.draw_by_table, noise_patch=(2, 3))
    masks = np.asarray(jax.jit(jax.vmap(draw, (0, None)))(keys, proposal), np.float64)
    uniform = beta(np.asarray(proposal, np.float64)).cdf(masks)
    patch_of = (np.arange(5) // 2)[:, None] * 3 + np.arange(7) // 3
    for patch in range(9):
        inside = uniform[:, patch_of == patch]
        # Twice the table's largest error of the CDF.
        np.testing.assert_allclose(
            inside, inside[:, :1].repeat(inside.shape[1], 1), atol=2 * 1.7e-4
        )
    first = np.stack([uniform[:, patch_of == patch][:, 0] for patch in range(9)])
    correlation = np.corrcoef(first) - np.eye(9)
    # Standard error 1 / sqrt(2000) = 0.022; 36 pairs, 4.5 of them.
    assert np.abs(correlation).max() < 4.5 * 0.0224


def test_batch_axes_do_not_share_noise():
    proposal = jnp.full((2, 3, 4, 4), 0.5)
    mask = sampling.draw_by_table(
        jax.random.key(0), proposal, KAPPA, noise_patch=(4, 4)
    )
    assert len(np.unique(mask)) == 6


def test_patch_larger_than_the_grid_is_one_patch():
    proposal = jnp.full((3, 5), 0.5)
    mask = sampling.draw_by_table(
        jax.random.key(0), proposal, KAPPA, noise_patch=(8, 8)
    )
    assert mask.shape == (3, 5)
    assert len(np.unique(mask)) == 1


def test_repeat_patches_by_hand():
    values = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    expected = [[1, 1, 2], [1, 1, 2], [3, 3, 4]]
    np.testing.assert_array_equal(
        sampling.repeat_patches(values, (2, 2), 3, 3), expected
    )


def test_one_table_per_kappa_that_nobody_can_change():
    table = quantiles.quantile_table(KAPPA)
    assert quantiles.quantile_table(KAPPA) is table
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1.0
    # F^-1(u; P) = 1 - F^-1(1 - u; 1 - P); two float32 roundings apart.
    np.testing.assert_allclose(table, 1 - table[::-1, ::-1], atol=2.4e-7)


@pytest.mark.parametrize("kappa", [0.0, -1.0, float("nan"), float("inf")])
def test_kappa_must_be_positive(kappa):
    with pytest.raises(ValueError, match=r"kappa is .*, expected a positive number"):
        quantiles.quantile_table(kappa)


def test_shared_noise_needs_a_grid():
    with pytest.raises(ValueError, match=r"proposal has shape \(3,\), expected"):
        sampling.draw_by_table(
            jax.random.key(0), jnp.full((3,), 0.5), KAPPA, noise_patch=(2, 2)
        )


@pytest.mark.parametrize("kappa", [1.0, 9.0, 30.0])
def test_slopes_are_the_implicit_derivative(kappa):
    # -(dF / dP) / f at the table's own nodes, F differentiated by differences.
    rows, columns = slice(8, -8, 12), slice(8, -8, 24)
    p = quantiles._nodes(quantiles.NUM_ROWS)[rows, None]
    u = quantiles._nodes(quantiles.NUM_COLUMNS)[None, columns]
    m = beta(p, kappa).ppf(u)
    step = 1e-5
    rise = (beta(p + step, kappa).cdf(m) - beta(p - step, kappa).cdf(m)) / (2 * step)
    expected = -rise / beta(p, kappa).pdf(m)
    found = quantiles.slope_table(kappa)[rows, columns]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_draw_with_its_path_is_the_same_draw_and_follows_the_proposal():
    key, proposal = jax.random.key(4), jnp.linspace(0.05, 0.95, 4_000)
    draw = jax.jit(partial(sampling.draw_with_path, key))
    plain = jax.jit(partial(sampling.draw_by_table, key))(proposal)
    # Compiled beside the slopes, a product and a sum may round once instead of twice.
    np.testing.assert_allclose(draw(proposal), plain, rtol=3e-7)
    slope = jax.grad(lambda p: jnp.sum(draw(p)))(proposal)
    step = 0.02  # several rows of the table, whose interpolation is piecewise
    quotient = (draw(proposal + step) - draw(proposal - step)) / (2 * step)
    # Its own curvature, and the chords between the nodes of the table.
    np.testing.assert_allclose(slope, quotient, atol=0.05)
    # The mean of the draws moves by kappa / (2 + kappa).
    np.testing.assert_allclose(jnp.mean(slope), KAPPA / (2 + KAPPA), rtol=0.01)


def test_clamped_draws_have_no_path():
    proposal = jnp.zeros(200_000)
    key = jax.random.key(0)
    mask = sampling.draw_with_path(key, proposal)
    slope = jax.grad(lambda p: jnp.sum(sampling.draw_with_path(key, p)))(proposal)
    held = mask == sampling.MASK_MARGIN
    assert 0 < int(held.sum()) < 100
    assert not slope[held].any()


@pytest.mark.parametrize("patch", [(1, 1), (2, 3)])
def test_mirrored_draws_are_the_quantiles_of_the_other_end(patch):
    proposal = jnp.broadcast_to(jnp.linspace(0.1, 0.9, 6), (64, 6))
    key = jax.random.key(1)
    first = sampling.draw_by_table(key, proposal, noise_patch=patch)
    twin = sampling.draw_by_table(key, proposal, noise_patch=patch, mirrored=True)
    level = [beta(np.asarray(proposal)).cdf(np.asarray(m)) for m in (first, twin)]
    np.testing.assert_allclose(level[0] + level[1], 1.0, atol=5e-4)
