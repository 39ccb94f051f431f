"""Activations of 16 bits; parameters, policy, reward and metrics of 32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from marssep_jax.advantages import group_advantage
from marssep_jax.config import SeparatorConfig
from marssep_jax.models import make_separator
from marssep_jax.objectives import make_supervised_objective
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.state import create_state, with_reference
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.update import make_policy_update, make_supervised_update

pytestmark = pytest.mark.usefixtures("quick_compile")
TX = optax.adamw(1e-3)


def config(architecture):
    return SeparatorConfig(architecture, embed_dim=3, num_channels=4, widths=(8,))


def floats(tree):
    """Return the types of all floating numbers of a tree."""
    leaves = (jnp.asarray(leaf) for leaf in jax.tree.leaves(tree))
    return {x.dtype.name for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)}


def types_in(jaxpr, primitive):
    """Return the types that a primitive computes in, in all of a program."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == primitive:
            found |= {value.aval.dtype.name for value in equation.invars}
        for inner in jaxprs_in_params(equation.params):
            found |= types_in(inner, primitive)
    return found


@pytest.mark.parametrize("architecture", ["omnisep", "compact"])
def test_convolutions_are_of_16_bits_and_logits_of_32(world, architecture, scene):
    log_mag, query = scene.features.log_mag, jnp.ones((4, 2, 3))
    exact = make_separator(config(architecture))
    rough = make_separator(config(architecture), jnp.bfloat16)
    start = exact.init(jax.random.key(0), world.frontend.config)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(
        jnp.shape, rough.init(jax.random.key(0), world.frontend.config)
    )
    # The published start is flat: kernels of 0.001 leave rounding nothing to change.
    start = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape),
        start,
    )
    outputs = []
    for separator, name in ((exact, "float32"), (rough, "bfloat16")):
        forward = partial(separator.apply, train=True)
        program = jax.make_jaxpr(forward)(*start, log_mag, query)
        assert types_in(program.jaxpr, "conv_general_dilated") == {name}
        logits, statistics = jax.jit(forward)(*start, log_mag, query)
        assert logits.dtype == jnp.float32
        assert floats(statistics) <= {"float32"}
        outputs.append(np.asarray(logits))
    error = np.abs(outputs[0] - outputs[1])
    spread = outputs[0].std()
    assert error.max() > 0
    # 8 bits of mantissa, a handful of layers.
    assert error.mean() < 0.05 * spread


def test_policy_reward_and_metrics_are_of_32_bits(world, batch):
    """Only the separator hears of the change: what surrounds it sees float32."""
    separator = make_separator(config("compact"), jnp.bfloat16)
    seen = {}

    def watched(name, function):
        def call(*args):
            seen.setdefault(name, set()).update(floats(args))
            return function(*args)

        return call

    names = ("log_prob", "entropy", "kl")
    policy = beta_policy()
    policy = policy._replace(**{n: watched(n, getattr(policy, n)) for n in names})
    sample = watched("sample", lambda proposal: proposal)
    policy = policy._replace(
        sample=lambda key, proposal: beta_policy().sample(key, sample(proposal))
    )
    update = make_policy_update(
        separator.apply,
        world.frontend,
        policy,
        watched("listen", world.listen),
        world.anchor,
        watched("reward", cosine_reward()),
        group_advantage(),
        watched("surrogate", clipped_surrogate()),
        TX,
        group_size=2,
        kl_ref_coef=0.1,
        supervised_coef=0.1,
        objective=watched("objective", make_supervised_objective()),
    )
    start = separator.init(jax.random.key(0), world.frontend.config)
    state = create_state(jax.random.key(0), *start, TX, group_advantage())
    state, metrics = update(with_reference(state), batch)
    assert seen.keys() >= {*names, "sample", "listen", "reward", "surrogate"}
    assert all(found == {"float32"} for found in seen.values()), seen
    assert floats((metrics, state.params, state.opt_state)) == {"float32"}
    assert float(metrics["policy/log_ratio_start"]) == 0.0
    assert all(np.isfinite(value) for value in metrics.values())


def test_training_in_16_bits_follows_that_in_32(world, batch):
    losses = []
    for dtype in (jnp.float32, jnp.bfloat16):
        separator = make_separator(config("compact"), dtype)
        update = make_supervised_update(
            separator.apply, world.frontend, make_supervised_objective(), TX
        )
        start = separator.init(jax.random.key(0), world.frontend.config)
        state = create_state(jax.random.key(0), *start, TX)
        curve = []
        for _ in range(20):
            state, metrics = update(state, batch)
            curve.append(float(metrics["supervised/loss"]))
        losses.append(curve)
    exact, rough = np.asarray(losses)
    fall = exact[0] - exact[-1]
    assert fall > 0
    assert np.abs(rough - exact).max() < 0.1 * fall
