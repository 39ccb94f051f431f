"""The steps whose cost is asked for, at the published size, without any weights."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from marssep_jax import sharding
from marssep_jax.advantages import group_advantage
from marssep_jax.config import FrontendConfig, SeparatorConfig
from marssep_jax.encoders.imagebind import ImageBindConfig, make_imagebind_encoder
from marssep_jax.features import make_frontend
from marssep_jax.listening import make_waveform_listener
from marssep_jax.models import make_separator
from marssep_jax.objectives import make_supervised_objective
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.sharding import SMALL
from marssep_jax.state import create_state
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.types import AXIS, MixtureBatch, Params
from marssep_jax.update import make_policy_update, make_supervised_update


@dataclasses.dataclass(frozen=True)
class Step:
    """One training step.

    Attributes:
      reward: ImageBind hears the estimates; else the step is supervised.
      cut: large arrays are cut over the devices; else each has all of them.
      rows: mixtures on each device.
      targets: of each mixture.
      group_size: masks drawn per target.
      precision: of the activations of separator and ImageBind.
      towers: parts of ImageBind on the devices: "audio", all that a step reads, or
        "all", words and pictures too.
      quick: tiny sizes, for tests.
    """

    reward: bool = False
    cut: bool = False
    rows: int = 8
    targets: int = 2
    group_size: int = 6
    precision: str = "bfloat16"
    towers: str = "audio"
    quick: bool = False


STEPS = {
    "supervised": Step(),
    "reward": Step(reward=True, rows=2, towers="all"),
    "reward_cut": Step(reward=True, rows=2, towers="all", cut=True),
}
"""What is compiled. The last two differ in where the parameters lie."""

TINY = ImageBindConfig(
    embed_dim=16,
    audio_width=16,
    audio_blocks=1,
    audio_heads=2,
    image_width=16,
    image_blocks=1,
    image_heads=2,
    text_width=16,
    text_blocks=1,
    text_heads=2,
    vocabulary=64,
    image_size=28,
)


class Built(NamedTuple):
    """A step as a function of ``(fixed, state, batch)``, and the shapes of these."""

    update: Callable[..., Any]
    init: Callable[[jax.Array], tuple[Params, Any]]
    batch: MixtureBatch


def build(step: Step, num_devices: int) -> Built:
    """Build a step for so many devices; nothing is computed."""
    frontend_config, config = FrontendConfig(), SeparatorConfig()
    dtype = jnp.dtype(step.precision)
    sizes = ImageBindConfig(dtype=step.precision)
    if step.quick:
        frontend_config = FrontendConfig(num_samples=8_191, num_rows=64)
        config = SeparatorConfig(embed_dim=16, num_channels=4, widths=(8, 8, 8))
        sizes = dataclasses.replace(TINY, dtype=step.precision)
    frontend, separator = make_frontend(frontend_config), make_separator(config, dtype)
    encoder = make_imagebind_encoder(sizes, frontend_config.sample_rate_hz)
    advantage = group_advantage()
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-4))

    def update(fixed: Params, state: Any, batch: MixtureBatch) -> Any:
        if not step.reward:
            objective = make_supervised_objective()
            made = make_supervised_update(separator.apply, frontend, objective, tx)
            return made(state, batch)
        hear = partial(encoder.audio, fixed)
        made = make_policy_update(
            separator.apply,
            frontend,
            beta_policy(),
            make_waveform_listener(frontend, hear),
            lambda batch: hear(batch.target),
            cosine_reward(),
            advantage,
            clipped_surrogate(),
            tx,
            group_size=step.group_size,
        )
        return made(state, batch)

    def init(key: jax.Array) -> tuple[Params, Any]:
        state = create_state(key, *separator.init(key, frontend_config), tx, advantage)
        if not step.reward:
            return {}, state
        heard = encoder.init(key)
        if step.towers == "audio":
            names = ("audio", "audio_head", "log_temperature")
            heard = {name: heard[name] for name in names}
        return heard, state

    lead = (step.rows * num_devices, step.targets)

    def shape(*sizes: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct((*lead, *sizes), dtype)

    vector = shape(config.embed_dim)
    batch = MixtureBatch(
        shape(frontend_config.num_samples),
        vector,
        shape(sizes.embed_dim),
        shape(sizes.embed_dim),
        shape(dtype=jnp.int32),
    )
    return Built(update, init, batch)


def compile_step(step: Step, mesh: Mesh) -> jax.stages.Compiled:
    """Compile a step for devices that need not be there.

    Arguments that the step does not read are kept, because a training keeps them too.
    """
    built = build(step, mesh.size)
    fixed, state = jax.eval_shape(built.init, jax.random.key(0))
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_rows = NamedSharding(mesh, PartitionSpec(AXIS))

    def put(tree: Any) -> Any:
        where = jax.tree.map(lambda _: everywhere, tree)
        if step.cut:
            where = sharding.cut_or_copied(tree, mesh, 8 if step.quick else SMALL)
        return jax.tree.map(_placed, tree, where)

    fixed, state = put(fixed), put(state)
    batch = jax.tree.map(lambda leaf: _placed(leaf, by_rows), built.batch)
    kept = jax.tree.map(lambda leaf: leaf.sharding, state)
    jitted = jax.jit(
        built.update,
        out_shardings=(kept, everywhere),
        donate_argnums=1,
        keep_unused=True,
    )
    with jax.set_mesh(mesh):
        return jitted.lower(fixed, state, batch).compile()


def _placed(leaf: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
