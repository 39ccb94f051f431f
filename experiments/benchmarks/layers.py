"""The convolutions of the U-Net one by one, with their gradients."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.benchmarks.limits import Demand, moved_bytes
from experiments.benchmarks.updates import NUM_TARGETS, Sizes
from experiments.scaling.programs import describe
from marssep_jax.models import make_separator
from marssep_jax.models.doubling import TAPS, DoubledConv
from marssep_jax.models.halving import SIZE, HalvingConv


class Layer(NamedTuple):
    """A convolution, and the shapes of what it gets and returns."""

    name: str
    module: nn.Module
    params: Any
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    output: jax.ShapeDtypeStruct


class LayerProgram(NamedTuple):
    """A layer's forward pass and gradients, compiled, with something to run on."""

    name: str
    run: Callable[[], Any]
    demand: Demand
    counted: str
    """Who counted the operations: ``compiler``, or ``formula``."""
    text: str
    """Of the compiled program."""


def network_layers(sizes: Sizes, precision: str) -> list[Layer]:
    """Return the convolutions of the separator's U-Net, in the order that they run.

    Args:
      sizes: of network and batch.
      precision: of the activations.
    """
    separator = make_separator(sizes.separator, jnp.dtype(precision))
    found: list[Layer] = []

    def keep(
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        output = call(*args, **kwargs)
        module = context.module
        if isinstance(module, (HalvingConv, DoubledConv)):
            params, inputs, result = jax.tree.map(
                lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype),
                (module.variables["params"], args, output),
            )
            free = module.clone(parent=None)
            found.append(Layer(str(module.name), free, params, inputs, result))
        return output

    def run(key: jax.Array, log_mag: jax.Array, query: jax.Array) -> Any:
        params, state = separator.init(key, sizes.frontend)
        with nn.intercept_methods(keep):
            return separator.apply(params, state, log_mag, query, train=True)

    frontend, batch = sizes.frontend, sizes.batch_size
    grid = (batch, frontend.num_rows, frontend.num_frames)
    query = (batch, NUM_TARGETS, sizes.separator.embed_dim)
    jax.eval_shape(
        run,
        jax.random.key(0),
        jax.ShapeDtypeStruct(grid, jnp.float32),
        jax.ShapeDtypeStruct(query, jnp.float32),
    )
    return found


def with_gradients(module: nn.Module) -> Callable[..., tuple[Any, Any]]:
    """Return ``(params, inputs, slope) -> (output, gradients)`` of a layer.

    Gradients are those by parameters and by all inputs, as in the network.
    """

    def run(
        params: Any, inputs: tuple[jax.Array, ...], slope: jax.Array
    ) -> tuple[Any, Any]:
        output, pull = jax.vjp(
            lambda params, inputs: module.apply({"params": params}, *inputs),
            params,
            inputs,
        )
        return output, pull(slope)

    return run


def compile_layer(layer: Layer) -> LayerProgram:
    """Compile a layer with its gradients; it runs on noise."""
    given = (layer.params, layer.inputs, layer.output)
    compiled = jax.jit(with_gradients(layer.module)).lower(*given).compile()
    leaves, tree = jax.tree.flatten(given)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [
        jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    arrays = jax.tree.unflatten(tree, drawn)
    told = describe(compiled)
    needed, counted, flops = needed_flops(layer), "compiler", told["flops"]
    # Compilers see nothing of products that they hand to a library.
    if flops < needed / 4:
        counted, flops = "formula", needed
    return LayerProgram(
        layer.name,
        lambda: compiled(*arrays),
        Demand(flops, moved_bytes(told)),
        counted,
        compiled.as_text() or "",
    )


def needed_flops(layer: Layer) -> float:
    """Count a layer's multiplications and additions, forth and twice back.

    Those of its products alone, as they are formulated: on the small grid for what
    is doubled, and of the gates' sums where there are gates. Taps that fall on padding
    count too, which a compiler may leave out.
    """
    inputs, outputs = layer.params["kernel"].shape[-2:]
    batch, height, width = layer.inputs[0].shape[:3]
    if isinstance(layer.module, HalvingConv):
        places, taps = batch * (height // 2) * (width // 2), SIZE**2
    else:
        places, taps = batch * height * width, TAPS**2
    if len(layer.inputs) > 1:  # gated sums instead of outputs
        outputs = min(outputs, layer.inputs[1].shape[1])
    return 3 * 2.0 * math.prod((places, taps, inputs, outputs))
