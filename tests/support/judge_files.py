"""Small random weights of the judges' networks, in their published layouts."""

import numpy as np

from tests.support.bundle_file import write_bundle
from tests.support.torch_zip import Call, write_torch

AISFX_WIDTHS = (1, 3, 4, 5, 6)
TIMBRE, RHYTHM, TIME, EMBEDDING, TAGS = 3, 2, 2, 5, 50
MUSICNN_KERNELS = {
    "conv2d": (7, 38, 1, TIMBRE),
    "conv2d_1": (7, 67, 1, TIMBRE),
    "conv2d_2": (128, 1, 1, RHYTHM),
    "conv2d_3": (64, 1, 1, RHYTHM),
    "conv2d_4": (32, 1, 1, RHYTHM),
    "conv2d_5": (7, 2 * TIMBRE + 3 * RHYTHM, 1, TIME),
    "conv2d_6": (7, TIME, 1, TIME),
    "conv2d_7": (7, TIME, 1, TIME),
    "dense": (2 * (2 * TIMBRE + 3 * RHYTHM + 3 * TIME), EMBEDDING),
    "dense_1": (EMBEDDING, TAGS),
}
MUSICNN_NORMS = (
    *(1, TIMBRE, TIMBRE, RHYTHM, RHYTHM, RHYTHM, TIME, TIME, TIME),
    *(MUSICNN_KERNELS["dense"][0], EMBEDDING),
)


def aisfx_tensors(seed=0):
    """Return a state dict; heads for label systems, which are not ours, are in it."""
    draw = np.random.default_rng(seed)
    found = {}
    for number in range(1, 5):
        block = f"embedding_net.conv_block{number}"
        for layer in (1, 2):
            size, source = AISFX_WIDTHS[number], AISFX_WIDTHS[number - (layer == 1)]
            kernel = 0.4 * draw.standard_normal((size, source, 3, 3))
            norm = f"{block}.bn{layer}"
            found |= {
                f"{block}.conv{layer}.weight": kernel,
                f"{norm}.weight": 1 + 0.1 * draw.standard_normal(size),
                f"{norm}.bias": 0.1 * draw.standard_normal(size),
                f"{norm}.running_mean": 0.1 * draw.standard_normal(size),
                f"{norm}.running_var": 1 + draw.uniform(size=size),
            }
    found["fc.0.0.weight"] = draw.standard_normal((3, AISFX_WIDTHS[-1]))
    tensors = {name: value.astype(np.float32) for name, value in found.items()}
    counter = "embedding_net.conv_block1.bn1.num_batches_tracked"
    return tensors | {counter: np.array(7, np.int64)}


def write_aisfx(path, tensors):
    """Write a file as aiSFX's: a pair of weights and objects of scikit-learn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    binarizer = Call("sklearn.preprocessing._label", "LabelBinarizer")
    return write_torch(path, (tensors, {"prosfx": (binarizer, 3)}))


def musicnn_tensors(seed=0):
    """Return variables as TensorFlow 1 kept them, an optimiser's slot among them."""
    draw = np.random.default_rng(seed)
    found = {"beta1_power": np.float32(0.9)}
    for name, shape in MUSICNN_KERNELS.items():
        scale = 1 / np.sqrt(np.prod(shape[:-1]))
        found[f"{name}/kernel"] = scale * draw.standard_normal(shape)
        found[f"{name}/bias"] = 0.1 * draw.standard_normal(shape[-1])
        found[f"{name}/bias/Adam"] = np.zeros(shape[-1])
    for number, size in enumerate(MUSICNN_NORMS):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        found |= {
            f"{name}/gamma": 1 + 0.1 * draw.standard_normal(size),
            f"{name}/beta": 0.1 * draw.standard_normal(size),
            f"{name}/moving_mean": 0.1 * draw.standard_normal(size),
            f"{name}/moving_variance": 1 + draw.uniform(size=size),
        }
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def write_musicnn(index, tensors):
    """Write a bundle as musicnn's, whose files have no name but their endings."""
    return write_bundle(index, tensors)
