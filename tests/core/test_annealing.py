"""A concentration that changes from call to call of one compiled function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from marssep_jax.advantages import group_advantage
from marssep_jax.annealing import annealed_policy, policy_at, stage_kappas
from marssep_jax.config import PolicyConfig
from marssep_jax.policy import beta_policy, make_mask_policy, patch_beta_policy
from marssep_jax.quantiles import make_concentration
from marssep_jax.rewards import cosine_reward
from marssep_jax.state import create_state
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.update import make_policy_update

FUNCTIONS = ("sample", "path", "mirror", "log_prob", "entropy", "kl", "mode", "mean")
PROPOSAL = jnp.asarray(np.random.default_rng(0).random((2, 16, 16)), jnp.float32)


def everything(policy):
    """Return what a policy says of one proposal, by function."""
    key, other = jax.random.key(1), 1.0 - PROPOSAL
    mask = policy.sample(key, PROPOSAL)
    given = {
        "log_prob": (PROPOSAL, mask),
        "kl": (PROPOSAL, other),
        **dict.fromkeys(("entropy", "mode", "mean"), (PROPOSAL,)),
        **dict.fromkeys(("sample", "path", "mirror"), (key, PROPOSAL)),
    }
    return {name: getattr(policy, name)(*given[name]) for name in FUNCTIONS}


@pytest.mark.parametrize("make", [beta_policy, patch_beta_policy])
def test_a_kappa_that_is_an_argument_compiles_once(make):
    compiled = jax.jit(lambda kappa: everything(make(kappa)))
    for kappa in (1.0, 9.0, 40.0):
        found = compiled(make_concentration(kappa))
        expected = jax.jit(lambda kappa=kappa: everything(make(kappa)))()
        for name in FUNCTIONS:
            np.testing.assert_allclose(
                found[name], expected[name], rtol=2e-5, atol=2e-5, err_msg=name
            )
    assert compiled._cache_size() == 1


def test_draws_of_a_changing_kappa_are_its_beta():
    draw = jax.jit(lambda kappa, key: beta_policy(kappa).sample(key, proposal))
    proposal = jnp.full(200_000, 0.3)
    for kappa in (3.0, 25.0):
        drawn = draw(make_concentration(kappa), jax.random.key(0))
        beta = stats.beta(1 + kappa * 0.3, 1 + kappa * 0.7)
        assert stats.kstest(np.asarray(drawn, np.float64), beta.cdf).pvalue > 1e-3


def test_stages_go_from_one_kappa_to_the_other():
    assert stage_kappas(1.0, 100.0, 3).tolist() == pytest.approx([1.0, 10.0, 100.0])
    config = PolicyConfig(kappa=9.0, kappa_start=2.0)
    policy = annealed_policy(config, 100)
    mean = jax.jit(lambda step: policy(step).mean(PROPOSAL))
    kappas = stage_kappas(2.0, 9.0, 100)
    for step, stage in ((0, 0), (6, 0), (7, 1), (50, 8), (99, 15), (1_000, 15)):
        expected = beta_policy(float(kappas[stage])).mean(PROPOSAL)
        np.testing.assert_allclose(mean(step), expected, rtol=1e-6)
    assert mean._cache_size() == 1
    # Models are used with the kappa at the end.
    last = make_mask_policy(config).mean(PROPOSAL)
    np.testing.assert_allclose(mean(99), last, rtol=1e-6)
    still = beta_policy()
    assert policy_at(still, jnp.int32(3)) is still


def test_policies_of_a_run_may_be_made_while_it_is_compiled():
    config = PolicyConfig(kappa_start=2.0)
    mean = jax.jit(lambda step: annealed_policy(config, 100)(step).mean(PROPOSAL))
    first = beta_policy(make_concentration(2.0)).mean(PROPOSAL)
    np.testing.assert_allclose(mean(0), first, rtol=1e-6)


def test_numbers_out_of_range():
    config = PolicyConfig(kappa_start=2.0)
    with pytest.raises(ValueError, match="num_steps is 0"):
        annealed_policy(config, 0)
    with pytest.raises(ValueError, match=r"kappa_start is 0\.0"):
        annealed_policy(dataclasses.replace(config, kappa_start=0.0), 10)
    with pytest.raises(ValueError, match="kappa_start"):
        PolicyConfig(kappa_start=-1.0)
    with pytest.raises(ValueError, match="kappa is nan"):
        make_concentration(float("nan"))


def test_a_run_changes_kappa_in_one_program(world, batch):
    """Step by step the same as updates of their own stage's kappa."""
    advantage, tx = group_advantage(), optax.sgd(0.1)

    def update(policy):
        return make_policy_update(
            world.separator,
            world.frontend,
            policy,
            world.listen,
            world.anchor,
            cosine_reward(),
            advantage,
            clipped_surrogate(),
            tx,
            group_size=3,
        )

    def begin():
        params = world.init_params()
        return create_state(jax.random.key(0), params, {}, tx, advantage)

    config = PolicyConfig(kappa=20.0, kappa_start=2.0)
    annealed = update(annealed_policy(config, 2))
    state, expected = begin(), begin()
    for kappa in stage_kappas(2.0, 20.0, 2):
        state, metrics = annealed(state, batch)
        expected, wanted = update(beta_policy(float(kappa)))(expected, batch)
        np.testing.assert_allclose(
            metrics["policy/entropy"], wanted["policy/entropy"], rtol=1e-4, atol=1e-5
        )
    assert annealed._cache_size() == 1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        state.params,
        expected.params,
    )
