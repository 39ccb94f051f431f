"""The judges' networks against the published code and graph, with their own weights.

``pip install --no-deps aisfx==0.1.2 musicnn==0.1.0`` brings the weights; the first also
needs PyTorch, the second TensorFlow. On a CPU in float32 the embeddings differed by
2e-6 (aisfx, largest value 5.1) and 4e-6 (musicnn, 4.9), the tags by 2e-7.
"""

import numpy as np
import pytest

from marssep_jax.conversion.tensor_bundle import open_bundle
from marssep_jax.judges import aisfx, musicnn


@pytest.fixture
def need(shelf):
    """Skip unless packages are there; none is imported by that."""
    return shelf.need


def test_aisfx_against_the_published_network(need):
    need("torch", "aisfx")
    import torch

    cnn2d = pytest.importorskip("aisfx.models.cnn2d")
    paths = aisfx.WEIGHTS.find()
    tensors = aisfx._read_pair(paths[aisfx.CHECKPOINT])
    prefix = "embedding_net."
    state = {
        name.removeprefix(prefix): torch.tensor(np.array(value))
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    network = cnn2d.EmbeddingNet("max", 3, 1, 64)
    network.load_state_dict(state)
    network.eval()
    block = np.random.default_rng(0).uniform(size=(3, 100, 96)).astype(np.float32)
    with torch.no_grad():
        expected = np.concatenate(
            [network(torch.tensor(one)[None]).numpy() for one in block]
        )
    found = np.asarray(aisfx.forward(aisfx.read_params(paths), block))
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


@pytest.fixture
def graph(need):
    """Return the published graph of musicnn, and the module that runs it."""
    need("tensorflow", "musicnn")
    import tensorflow

    tf = tensorflow.compat.v1
    path = musicnn.WEIGHTS.find()[musicnn.INDEX].with_name(".meta")
    meta = tf.MetaGraphDef.FromString(path.read_bytes())
    for node in meta.graph_def.node:  # shapes of gradients that TF 2 counts otherwise
        node.attr.pop("_output_shapes", None)
    with tf.Graph().as_default() as built:
        tf.import_graph_def(meta.graph_def, name="")
    return tf, built


def test_musicnn_against_the_published_graph(graph):
    tf, built = graph
    paths = musicnn.WEIGHTS.find()
    patch = np.random.default_rng(0).uniform(0, 4, (3, 187, 96)).astype(np.float32)
    names = {op.name for op in built.get_operations()}
    with built.as_default(), tf.Session(graph=built) as session:
        for name, value in open_bundle(paths[musicnn.INDEX]).items():
            if name in names:
                variable = built.get_tensor_by_name(f"{name}:0")
                session.run(tf.assign(variable, np.array(value)))
        embedding, tags = session.run(
            ["model/batch_normalization_10/batchnorm/add_1:0", "model/Sigmoid:0"],
            {"model/Placeholder:0": patch, "model/Placeholder_2:0": False},
        )
    params = musicnn.read_params(paths)
    found = musicnn.forward(params, patch)
    np.testing.assert_allclose(found, embedding, atol=1e-5 * abs(embedding).max())
    logits = np.asarray(musicnn.tag_logits(params, found))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), tags, atol=1e-5)


def test_bundle_against_tensorflow(need):
    need("tensorflow", "musicnn")
    import tensorflow

    index = musicnn.WEIGHTS.find()[musicnn.INDEX]
    reader = tensorflow.compat.v1.train.NewCheckpointReader(f"{index.parent}/")
    ours = open_bundle(index)
    assert set(ours) == set(reader.get_variable_to_shape_map())
    for name, value in ours.items():
        np.testing.assert_array_equal(value, reader.get_tensor(name))
