"""The table sampler against JAX's own Beta and against plain uniforms."""

import jax

from experiments.benchmarks.rows import Row, ratio_row
from experiments.benchmarks.timing import alternate
from marssep_jax.policy import beta_policy

NAMES = ("sampler.beta_vs_jax_random_beta", "sampler.beta_vs_uniform")

KAPPA = 9.0
MASKS = (64, 256, 256)  # 4.2 million draws
TINY_MASKS = (2, 32, 32)


def measure(tiny: bool) -> list[Row]:
    """Draw masks around random proposals."""
    shape = TINY_MASKS if tiny else MASKS
    key, proposal_key = jax.random.split(jax.random.key(0))
    proposal = jax.random.uniform(proposal_key, shape)
    ours = jax.jit(beta_policy(KAPPA).sample)
    uniform = jax.jit(lambda key: jax.random.uniform(key, shape))
    beta = jax.jit(
        lambda key, proposal: jax.random.beta(
            key, 1.0 + KAPPA * proposal, 1.0 + KAPPA * (1.0 - proposal)
        )
    )
    fast = alternate(
        {"ours": lambda: ours(key, proposal), "uniform": lambda: uniform(key)},
        2 if tiny else 15,
    )
    slow = alternate(
        {"ours": lambda: ours(key, proposal), "beta": lambda: beta(key, proposal)},
        2 if tiny else 4,
    )
    return [
        ratio_row(NAMES[0], slow["ours"], "jax.random.beta", slow["beta"], target=80.0),
        ratio_row(
            NAMES[1], fast["ours"], "jax.random.uniform", fast["uniform"], target=0.5
        ),
    ]
