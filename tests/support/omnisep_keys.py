"""A small checkpoint of OmniSep's separator: keys, shapes and weights by rule.

Keys follow the nest of the U-Net: a block holds what goes down, the next block, and
what goes up. Nothing is read from a file: each weight is drawn from its own name.
"""

import zlib

import numpy as np

WIDTHS, NUM_CHANNELS, EMBED_DIM = (6, 8, 12, 10), 5, 7


def _norm(name, size):
    sizes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (size,))
    shapes = {f"{name}.{part}": shape for part, shape in sizes.items()}
    return shapes | {f"{name}.num_batches_tracked": ()}


def unet_shapes(widths=WIDTHS, num_channels=NUM_CHANNELS, prefix="sound_net"):
    """Return keys and shapes of the U-Net, in the order of its layers."""
    last = len(widths) - 1

    def block(name, level):
        """Return shapes of a block; its layers are counted as in a Sequential."""
        shapes, place = {}, int(level > 0)  # an activation first, but for the outermost
        inputs = 1 if level == 0 else widths[level - 1]
        shapes[f"{name}.{place}.weight"] = (widths[level], inputs, 4, 4)
        if 0 < level < last:
            place += 1
            shapes |= _norm(f"{name}.{place}", widths[level])
        if level < last:
            place += 1
            shapes |= block(f"{name}.{place}.model", level + 1)
        place += 3  # activation, doubling, convolution
        outputs = num_channels if level == 0 else widths[level - 1]
        skipped = 1 if level == last else 2
        shapes[f"{name}.{place}.weight"] = (outputs, skipped * widths[level], 3, 3)
        if level == 0:
            shapes[f"{name}.{place}.bias"] = (outputs,)
        else:
            shapes |= _norm(f"{name}.{place + 1}", outputs)
        return shapes

    return _norm(f"{prefix}.bn0", 1) | block(f"{prefix}.unet_block.model", 0)


def checkpoint_shapes(
    widths=WIDTHS, num_channels=NUM_CHANNELS, embed_dim=EMBED_DIM, prefix="module."
):
    """Return keys and shapes of a whole checkpoint, as data-parallel runs save it."""
    shapes = unet_shapes(widths, num_channels) | {
        "frame_net.fc.weight": (num_channels, embed_dim),
        "frame_net.fc.bias": (num_channels,),
        "synth_net.scale": (num_channels,),
        "synth_net.bias": (1,),
    }
    return {f"{prefix}{key}": shape for key, shape in shapes.items()}


def rule_weight(key, shape):
    """Draw the weight that the golden numbers were made with: key is the seed."""
    if key.endswith("num_batches_tracked"):
        return np.asarray(3)
    draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    draw = draw.astype(np.float32)
    if draw.ndim > 1:
        # Every layer passes on about as much as it gets.
        return draw * np.float32(1.4 / np.sqrt(draw[0].size))
    if key.endswith("running_var"):
        return 1 + np.float32(0.1) * np.abs(draw)
    offset = np.float32(key.endswith(("weight", "scale")))
    return offset + np.float32(0.1) * draw


def checkpoint(**sizes):
    """Return a whole checkpoint."""
    shapes = checkpoint_shapes(**sizes)
    return {key: rule_weight(key, shape) for key, shape in shapes.items()}
