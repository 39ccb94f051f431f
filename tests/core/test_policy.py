from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from marssep_jax.policy import average_patches, beta_policy, patch_beta_policy
from marssep_jax.sampling import MASK_MARGIN

KAPPA = 9.0
POLICY = beta_policy(KAPPA)
# Ends of both ranges, what lies next to them in float32, and the inside.
P_GRID = np.array([0, 1e-7, 1e-4, 0.05, 0.3, 0.5, 0.77, 0.97, 1 - 2.0**-20, 1])
M_GRID = np.array([MASK_MARGIN, 1e-4, 0.01, 0.2, 0.5, 0.9, 0.999, 1 - MASK_MARGIN])
P_GRID, M_GRID = (grid.astype(np.float32) for grid in (P_GRID, M_GRID))
PAIRS = np.array(list(product(P_GRID, M_GRID)), np.float32).T
# float32: lgamma reaches 15 and kappa ln m reaches 100, each rounded to 6e-8 of
# itself, a handful of terms.
LOG_TOLERANCE = {"rtol": 1e-6, "atol": 1e-5}


def exact(p, kappa=KAPPA):
    p = np.asarray(p, np.float64)
    return stats.beta(1 + kappa * p, 1 + kappa * (1 - p))


@pytest.mark.parametrize("kappa", [1.0, 9.0, 40.0])
def test_log_prob_is_scipys(kappa):
    proposal, mask = PAIRS
    got = jax.jit(beta_policy(kappa).log_prob)(proposal, mask)
    assert got.dtype == jnp.float32
    # lgamma(42) is 114, so its rounding alone is 8e-6.
    np.testing.assert_allclose(
        got,
        exact(proposal, kappa).logpdf(mask.astype(np.float64)),
        rtol=1e-6,
        atol=1e-5 * max(1.0, kappa / 9.0),
    )


def test_log_prob_gradient_is_exact_up_to_the_ends():
    # d/dP ln pi = kappa (ln m - ln(1 - m) - psi(alpha) + psi(beta)).
    proposal, mask = PAIRS
    got = jax.jit(jax.vmap(jax.grad(POLICY.log_prob)))(proposal, mask)
    p, m = PAIRS.astype(np.float64)
    score = special.logit(m) - special.psi(1 + KAPPA * p)
    score = KAPPA * (score + special.psi(1 + KAPPA * (1 - p)))
    np.testing.assert_allclose(got, score, **LOG_TOLERANCE)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_ends_of_the_support_stay_finite(dtype):
    # Also a sample that was rounded to bfloat16, where 1 - MASK_MARGIN becomes 1.
    ends = jnp.array([0.0, 1.0, 1.0 - MASK_MARGIN, MASK_MARGIN])
    proposal, mask = (each.ravel() for each in jnp.meshgrid(ends, ends))
    proposal, mask = proposal.astype(dtype), mask.astype(dtype)
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(POLICY.log_prob)))(
        proposal, mask
    )
    assert value.dtype == jnp.float32
    assert np.isfinite(value).all()
    assert np.isfinite(slope.astype(jnp.float32)).all()
    # |ln m| <= 16 ln 2 = 11.1; psi(10) - psi(1) = 2.83; kappa times the sum.
    assert np.abs(slope.astype(jnp.float32)).max() < KAPPA * (11.1 + 2.9)


def test_value_at_an_end_is_that_at_the_margin():
    proposal = jnp.array([0.0, 0.3, 1.0])
    for end, nearest in ((0.0, MASK_MARGIN), (1.0, 1.0 - MASK_MARGIN)):
        np.testing.assert_array_equal(
            POLICY.log_prob(proposal, jnp.full((3,), end)),
            POLICY.log_prob(proposal, jnp.full((3,), nearest)),
        )


def test_gradient_with_respect_to_logits_is_finite_when_saturated():
    logits = jnp.array([-200.0, -30.0, 0.0, 30.0, 200.0])

    def total(logits):
        proposal = jax.nn.sigmoid(logits)
        mask = jnp.full((5,), MASK_MARGIN)
        value = POLICY.log_prob(proposal, mask) + POLICY.entropy(proposal)
        return jnp.sum(value + POLICY.kl(proposal, proposal[::-1]))

    assert np.isfinite(jax.jit(jax.grad(total))(logits)).all()


@pytest.mark.parametrize("kappa", [1.0, 9.0, 40.0])
def test_entropy_is_scipys(kappa):
    got = jax.jit(beta_policy(kappa).entropy)(P_GRID)
    np.testing.assert_allclose(
        got, exact(P_GRID, kappa).entropy(), atol=1e-5 * max(1.0, kappa / 9.0)
    )


def test_entropy_gradient_is_exact_up_to_the_ends():
    # dH/dP = kappa^2 ((1 - P) psi'(beta) - P psi'(alpha)).
    got = jax.jit(jax.vmap(jax.grad(POLICY.entropy)))(P_GRID)
    p = P_GRID.astype(np.float64)
    low, high = (special.polygamma(1, 1 + KAPPA * each) for each in (p, 1 - p))
    np.testing.assert_allclose(
        got, KAPPA**2 * ((1 - p) * high - p * low), rtol=1e-5, atol=1e-4
    )


def kl_by_quadrature(p, q):
    # Adaptive: the integrand has logarithms at both ends, which it never touches.
    def integrand(mask):
        gap = special.xlogy(p - q, mask) + special.xlog1py(q - p, -mask)
        return exact(p).pdf(mask) * KAPPA * gap

    beta_functions = [
        special.betaln(1 + KAPPA * x, 1 + KAPPA * (1 - x)) for x in (p, q)
    ]
    integral, error = integrate.quad(integrand, 0.0, 1.0, epsabs=1e-7)
    assert error < 1e-6
    return integral + beta_functions[1] - beta_functions[0]


def test_kl_is_the_integral():
    grid = np.array([0.0, 0.05, 0.3, 0.77, 1.0])
    p, q = np.array(list(product(grid, grid))).T
    expected = [kl_by_quadrature(*pair) for pair in zip(p, q, strict=True)]
    got = jax.jit(POLICY.kl)(p.astype(np.float32), q.astype(np.float32))
    np.testing.assert_allclose(got, expected, **LOG_TOLERANCE)


def test_kl_is_the_closed_form_in_double_precision():
    p, q = np.array(list(product(P_GRID, P_GRID)), np.float64).T
    (a, b), (c, d) = ((1 + KAPPA * x, 1 + KAPPA * (1 - x)) for x in (p, q))
    # The textbook form, with the term in psi(a + b) that cancels here.
    expected = special.betaln(c, d) - special.betaln(a, b)
    expected += (a - c) * special.psi(a) + (b - d) * special.psi(b)
    expected += (c - a + d - b) * special.psi(a + b)
    got = jax.jit(POLICY.kl)(p.astype(np.float32), q.astype(np.float32))
    np.testing.assert_allclose(got, expected, **LOG_TOLERANCE)
    same = jax.jit(POLICY.kl)(P_GRID, P_GRID)
    np.testing.assert_array_equal(same, 0.0)


def test_kl_gradient_is_exact_up_to_the_ends():
    # In P: kappa^2 (P - Q) (psi'(alpha) + psi'(beta)); in Q:
    # kappa (psi(alpha_q) - psi(beta_q) - psi(alpha_p) + psi(beta_p)).
    p, q = np.array(list(product(P_GRID, P_GRID)), np.float32).T
    in_p, in_q = jax.jit(jax.vmap(jax.grad(POLICY.kl, (0, 1))))(p, q)
    p, q = p.astype(np.float64), q.astype(np.float64)
    (a, b), (c, d) = ((1 + KAPPA * x, 1 + KAPPA * (1 - x)) for x in (p, q))
    curvature = special.polygamma(1, a) + special.polygamma(1, b)
    np.testing.assert_allclose(
        in_p, KAPPA**2 * (p - q) * curvature, rtol=1e-5, atol=1e-4
    )
    pull = special.psi(c) - special.psi(d) - special.psi(a) + special.psi(b)
    np.testing.assert_allclose(in_q, KAPPA * pull, rtol=1e-5, atol=1e-4)


def test_mode_and_mean():
    inside = jnp.array([0.05, 0.3, 0.5, 0.97])
    np.testing.assert_array_equal(POLICY.mode(inside), inside)
    # The mode maximises the density: no neighbour is likelier.
    for step in (-1e-2, 1e-2):
        at_mode = POLICY.log_prob(inside, POLICY.mode(inside))
        assert (at_mode > POLICY.log_prob(inside, inside + step)).all()
    np.testing.assert_allclose(
        POLICY.mean(jnp.asarray(P_GRID)), exact(P_GRID).mean(), rtol=1e-6
    )


def test_vmap_over_keys_gives_the_group():
    proposal = jax.random.uniform(jax.random.key(0), (2, 3, 4, 5))
    keys = jax.random.split(jax.random.key(1), 6)
    draw_group = jax.jit(jax.vmap(POLICY.sample, (0, None), out_axes=2))
    group = draw_group(keys, proposal)
    assert group.shape == (2, 3, 6, 4, 5)
    # Compiled as well: the compiler's fused multiply-adds change the last bit.
    alone = jax.jit(POLICY.sample)(keys[4], proposal)
    np.testing.assert_array_equal(group[:, :, 4], alone)
    assert len(np.unique(group)) == group.size


@pytest.mark.parametrize("sampler", ["table", "jax"])
def test_samples_score_their_entropy(sampler):
    # -E ln pi = H: ties sampler and density together. 20,000 draws of a log-density
    # whose deviation is below 0.8: standard error 0.006, four of them.
    policy = beta_policy(KAPPA, sampler=sampler)
    proposal = jnp.broadcast_to(jnp.array([0.02, 0.4, 0.9])[:, None], (3, 20_000))
    mask = jax.jit(policy.sample)(jax.random.key(0), proposal)
    surprise = -jnp.mean(policy.log_prob(proposal, mask), axis=1)
    np.testing.assert_allclose(surprise, policy.entropy(proposal[:, 0]), atol=0.023)


def test_average_patches_by_hand():
    # 3 x 3 in patches of 2 x 2: four, two, two and one bins.
    proposal = jnp.arange(9.0).reshape(3, 3)
    expected = [[(0 + 1 + 3 + 4) / 4, (2 + 5) / 2], [(6 + 7) / 2, 8.0]]
    np.testing.assert_array_equal(average_patches(proposal, (2, 2)), expected)


def sum_over_patches(values, patch):
    height, width = values.shape[-2:]
    rows = np.add.reduceat(np.asarray(values), np.arange(0, height, patch[0]), -2)
    return np.add.reduceat(rows, np.arange(0, width, patch[1]), -1)


@pytest.mark.parametrize("patch", [(1, 1), (2, 3), (4, 4), (9, 9)])
def test_patch_policy_sums_to_the_exact_density(patch):
    policy = patch_beta_policy(KAPPA, patch)
    proposal, other = jax.random.uniform(jax.random.key(0), (2, 2, 3, 5, 7))
    mask = jax.jit(policy.sample)(jax.random.key(1), proposal)
    assert mask.shape == proposal.shape
    coarse, against = (average_patches(each, patch) for each in (proposal, other))
    action = mask[..., :: patch[0], :: patch[1]]
    assert len(np.unique(mask)) == coarse.size  # one variate per patch
    log_prob, entropy, kl = map(jax.jit, (policy.log_prob, policy.entropy, policy.kl))
    for got, expected in (
        (log_prob(proposal, mask), exact(coarse).logpdf(action)),
        (entropy(proposal), exact(coarse).entropy()),
        (kl(proposal, other), jax.jit(POLICY.kl)(coarse, against)),
    ):
        assert got.shape == proposal.shape
        # Up to 35 shares of one value are summed up again.
        np.testing.assert_allclose(
            sum_over_patches(got, patch), expected, rtol=1e-5, atol=2e-5
        )
        first = got[..., :: patch[0], :: patch[1]]
        np.testing.assert_array_equal(np.unique(got), np.unique(first))  # even shares


def test_patch_of_one_bin_is_the_bin_policy():
    proposal = jax.random.uniform(jax.random.key(0), (4, 5))
    one, bins = patch_beta_policy(KAPPA, (1, 1)), POLICY
    mask = bins.sample(jax.random.key(2), proposal)
    np.testing.assert_array_equal(one.sample(jax.random.key(2), proposal), mask)
    np.testing.assert_array_equal(
        one.log_prob(proposal, mask), bins.log_prob(proposal, mask)
    )


def test_patch_mode_and_mean_are_constant_on_patches():
    policy = patch_beta_policy(KAPPA, (2, 2))
    proposal = jnp.arange(9.0).reshape(3, 3) / 8.0
    mode = np.array([[2, 2, 3.5], [2, 2, 3.5], [6.5, 6.5, 8]]) / 8
    np.testing.assert_allclose(policy.mode(proposal), mode, rtol=1e-6)
    np.testing.assert_allclose(policy.mean(proposal), (1 + 9 * mode) / 11, rtol=1e-6)


def test_patch_actions_have_the_exact_marginal():
    # KS at 0.1 %, a sixth for each of six patches; edge patches included.
    policy = patch_beta_policy(KAPPA, (2, 3))
    proposal = jax.random.uniform(jax.random.key(3), (3, 7))
    keys = jax.random.split(jax.random.key(4), 20_000)
    masks = jax.jit(jax.vmap(policy.sample, (0, None)))(keys, proposal)
    coarse = np.asarray(average_patches(proposal, (2, 3)), np.float64)
    for row, column in np.ndindex(*coarse.shape):
        action = np.asarray(masks[:, 2 * row, 3 * column], np.float64)
        law = exact(coarse[row, column])
        assert stats.kstest(action, law.cdf).pvalue > 1e-3 / 6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: beta_policy(0.0), "kappa is 0.0, expected a positive number"),
        (lambda: beta_policy(sampler="numpy"), "sampler is 'numpy', expected"),
        (lambda: beta_policy(noise_patch=(0, 1)), r"noise_patch is \(0, 1\), expected"),
        (
            lambda: beta_policy(noise_patch=(2, 2), sampler="jax"),
            r"noise_patch is \(2, 2\), expected \(1, 1\) with sampler 'jax'",
        ),
        (lambda: patch_beta_policy(patch=(8, 0)), r"patch is \(8, 0\), expected"),
        (lambda: patch_beta_policy(kappa=-1.0), "kappa is -1.0, expected"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
