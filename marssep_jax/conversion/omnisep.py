"""OmniSep's and CLIPSep's separator: sizes, rules, and the bundle it becomes.

A checkpoint is a state dict of three groups: ``sound_net``, the U-Net;
``frame_net``, the linear layer of the query; ``synth_net``, scales and bias of the
head. The U-Net's blocks are nested in each other, and layers are told by their
place: in natural order of their names, which is the order of the nest, every
downward convolution comes before every upward one, and so do their norms. Nothing
else is taken from the names inside a group, and every shape is checked.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from marssep_jax._version import __version__
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.config import FrontendConfig, SeparatorConfig, to_dict
from marssep_jax.conversion.rules import Rule
from marssep_jax.models import make_separator

UNET, QUERY, HEAD = "sound_net", "frame_net", "synth_net"
DOWN_SIZE, UP_SIZE = 4, 3


class Layers(NamedTuple):
    """Names of the layers: convolutions and norms from the outside in and out again.

    ``norms`` begins with that of the input; ``vectors`` are the head's.
    """

    downs: list[str]
    ups: list[str]
    norms: list[str]
    query: str
    vectors: list[str]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort numbers as numbers, so that 10 comes after 9."""
    parts = name.split(".")
    return [
        (not p.isdigit(), int(p) if p.isdigit() else 0, p if not p.isdigit() else "")
        for p in parts
    ]


def find_layers(source: Mapping[str, np.ndarray]) -> Layers:
    """Tell the layers of a checkpoint by their place and shape.

    Raises:
      ValueError: what is there is not such a separator.
    """
    groups: dict[str, list[str]] = {UNET: [], QUERY: [], HEAD: []}
    for key in sorted(source, key=_natural):
        group = key.partition(".")[0]
        if group in groups:
            groups[group].append(key)
    for group, keys in groups.items():
        if not keys:
            raise ValueError(f"no key begins with {group!r}")
    unet = [
        key.removesuffix(".weight") for key in groups[UNET] if key.endswith(".weight")
    ]
    sizes = {name: source[f"{name}.weight"].shape for name in unet}
    norms = [name for name in unet if len(sizes[name]) == 1]
    # The input's norm has a name of its own; all others have more channels.
    norms.sort(key=lambda name: sizes[name] != (1,))
    convs = [name for name in unet if len(sizes[name]) == 4]
    levels = len(convs) // 2
    windows = [sizes[name][2:] for name in convs]
    expected = [(DOWN_SIZE, DOWN_SIZE)] * levels + [(UP_SIZE, UP_SIZE)] * levels
    if levels < 2 or windows != expected or len(norms) != 2 * levels - 2:
        raise ValueError(
            f"{UNET!r} has {len(convs)} convolutions and {len(norms)} norms, not those "
            "of a nested U-Net"
        )
    queries = [key for key in groups[QUERY] if source[key].ndim == 2]
    if len(queries) != 1:
        raise ValueError(f"{QUERY!r} holds {len(queries)} matrices, not one")
    return Layers(
        downs=convs[:levels],
        ups=convs[levels:],
        norms=norms,
        query=queries[0].rpartition(".")[0],
        vectors=groups[HEAD],
    )


def configure(source: Mapping[str, np.ndarray]) -> SeparatorConfig:
    """Read the separator's sizes from its tensors.

    Raises:
      ValueError: what is there is not such a separator.
    """
    layers = find_layers(source)
    num_channels, embed_dim = source[f"{layers.query}.weight"].shape
    return SeparatorConfig(
        architecture="omnisep",
        embed_dim=embed_dim,
        num_channels=num_channels,
        widths=tuple(source[f"{name}.weight"].shape[0] for name in layers.downs),
    )


def shapes(config: SeparatorConfig) -> dict[str, Any]:
    """Return the shapes of ``params`` and ``model_state``."""
    init = make_separator(config).init
    params, state = jax.eval_shape(
        lambda key: init(key, FrontendConfig()), jax.random.key(0)
    )
    return {"params": params, "model_state": state}


def rules(source: Mapping[str, np.ndarray]) -> list[Rule]:
    """Return the rules of one checkpoint, whose names they spell out.

    Raises:
      ValueError: what is there is not such a separator.
    """
    layers = find_layers(source)
    levels = len(layers.downs)
    found: list[Rule] = []
    for index, name in enumerate(layers.downs):
        found += _conv(name, f"unet/down_{index + 1}")
    for index, name in enumerate(layers.ups):
        found += _conv(name, f"unet/up_{levels - index}")
    places = ["entry_norm"]
    places += [f"down_norm_{level}" for level in range(2, levels)]
    places += [f"up_norm_{level}" for level in range(levels, 1, -1)]
    for name, place in zip(layers.norms, places, strict=True):
        found += _norm(name, f"unet/{place}")
    gate = "params/gate/Dense_0"
    found += [
        _rule(f"{layers.query}.weight", f"{gate}/kernel", "linear"),
        _rule(f"{layers.query}.bias", f"{gate}/bias"),
    ]
    single = source[f"{layers.query}.weight"].shape[0] == 1
    for key in layers.vectors:
        is_bias = key.endswith("bias") if single else source[key].size == 1
        scale = _rule(key, "params/gate/scale")
        found.append(_rule(key, "params/bias", "scalar") if is_bias else scale)
    return found


def _rule(key: str, target: str, transform: str = "same") -> Rule:
    return Rule(re.escape(key), target, transform)


def _conv(name: str, target: str) -> list[Rule]:
    return [
        _rule(f"{name}.weight", f"params/{target}/kernel", "conv"),
        _rule(f"{name}.bias", f"params/{target}/bias"),
    ]


def _norm(name: str, target: str) -> list[Rule]:
    return [
        _rule(f"{name}.weight", f"params/{target}/scale"),
        _rule(f"{name}.bias", f"params/{target}/bias"),
        _rule(f"{name}.running_mean", f"model_state/{target}/mean"),
        _rule(f"{name}.running_var", f"model_state/{target}/var"),
        _rule(f"{name}.num_batches_tracked", ""),
    ]


def save_separator(
    path: str | os.PathLike[str],
    architecture: str,
    config: SeparatorConfig,
    arrays: Iterable[tuple[str, np.ndarray]],
    licence: str,
    source: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a separator as a bundle, which all programs read; see `save_encoder`.

    It has the published front end and no encoder: its queries are vectors of the
    encoder that it was trained with.

    Returns:
      The bundle's settings.
    """
    tree = traverse_util.unflatten_dict(dict(arrays), sep="/")
    record: dict[str, Any] = {
        "frontend": to_dict(FrontendConfig()),
        "separator": to_dict(config),
        "encoder": None,
        "judge": None,
        "class_names": [],
        "step": None,
        "stage": f"converted ({architecture})",
        "licence": licence,
        "source": dict(source),
        "versions": {"marssep_jax": __version__},
    }
    params, state = tree["params"], tree["model_state"]
    save_bundle(path, ModelBundle(record, params, state, {}, None))
    return record
