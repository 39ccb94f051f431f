"""The judges' networks on small weights in the published layouts.

The references are written anew, in float64 and one convolution at a time.
"""

import jax
import librosa
import numpy as np
import pytest
from scipy.signal import correlate

from marssep_jax.judges import aisfx, musicnn
from marssep_jax.judges.hearing import even_blocks, levelled, unit_sum_filters
from tests.support.judge_files import (
    aisfx_tensors,
    musicnn_tensors,
    write_aisfx,
    write_musicnn,
)

RATE_HZ = 11_025


@pytest.fixture(scope="module")
def noise():
    draw = np.random.default_rng(1)
    return (0.1 * draw.standard_normal((2, 22_050))).astype(np.float32)


@pytest.fixture
def aisfx_file(tmp_path):
    return {aisfx.CHECKPOINT: write_aisfx(tmp_path / "c.pth", aisfx_tensors())}


@pytest.fixture
def musicnn_file(tmp_path):
    return {musicnn.INDEX: write_musicnn(tmp_path / ".index", musicnn_tensors())}


def convolved(image, kernel):
    """Correlate [h, w, c] with [i, j, c, d] where the kernel fits."""
    parts = [
        sum(correlate(image[..., c], kernel[..., c, d], "valid") for c in range(k))
        for k, d in ((kernel.shape[2], d) for d in range(kernel.shape[3]))
    ]
    return np.stack(parts, axis=-1)


def normed(tensors, name, eps, value, parts):
    scale, shift, mean, variance = (tensors[f"{name}{part}"] for part in parts)
    return (value - mean) / np.sqrt(variance + eps) * scale + shift


def reference_aisfx(tensors, block):
    """Return the embedding of one block [frame, mel]."""
    tensors = {name: value.astype(np.float64) for name, value in tensors.items()}
    parts = (".weight", ".bias", ".running_mean", ".running_var")
    value = block[..., None].astype(np.float64)
    for number in range(1, 5):
        prefix = f"embedding_net.conv_block{number}"
        for layer in (1, 2):
            kernel = tensors[f"{prefix}.conv{layer}.weight"].transpose(2, 3, 1, 0)
            value = convolved(np.pad(value, ((1, 1), (1, 1), (0, 0))), kernel)
            value = normed(tensors, f"{prefix}.bn{layer}", 1e-5, value, parts)
            value = np.maximum(value, 0)
        if number < 4:
            h, w, c = value.shape
            cut = value[: h - h % 2, : w - w % 2]
            value = cut.reshape(h // 2, 2, w // 2, 2, c).max(axis=(1, 3))
    return value.mean(axis=1).max(axis=0)  # over mels, then over frames


def reference_musicnn(tensors, patch):
    """Return embedding and tag logits of one patch [frame, mel]."""
    tensors = {name: value.astype(np.float64) for name, value in tensors.items()}

    def norm(number, value):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        parts = ("/gamma", "/beta", "/moving_mean", "/moving_variance")
        return normed(tensors, name, 1e-3, value, parts)

    def layer(number, value, before, after):
        name = f"conv2d_{number}" if number else "conv2d"
        padded = np.pad(value, ((before, after), (0, 0), (0, 0)))
        found = convolved(padded, tensors[f"{name}/kernel"]) + tensors[f"{name}/bias"]
        return norm(number + 1, np.maximum(found, 0))

    value = norm(0, patch[..., None].astype(np.float64))
    pads = ((3, 3), (3, 3), (63, 64), (31, 32), (15, 16))
    front = [layer(n, value, *pad).max(axis=1) for n, pad in enumerate(pads)]
    features = np.concatenate(front, axis=-1)
    first = layer(5, features[..., None], 3, 3)[:, 0]
    second = first + layer(6, first[..., None], 3, 3)[:, 0]
    third = second + layer(7, second[..., None], 3, 3)[:, 0]
    whole = np.concatenate([features, first, second, third], axis=-1)
    pooled = np.stack([whole.max(axis=0), whole.mean(axis=0)], axis=1).reshape(-1)
    dense = norm(9, pooled) @ tensors["dense/kernel"] + tensors["dense/bias"]
    embedding = norm(10, np.maximum(dense, 0))
    return (
        embedding,
        embedding @ tensors["dense_1/kernel"] + tensors["dense_1/bias"],
    )


def test_aisfx_is_its_reference(aisfx_file):
    params = aisfx.read_params(aisfx_file)
    block = np.random.default_rng(2).uniform(size=(2, 30, 22)).astype(np.float32)
    found = jax.jit(aisfx.forward)(params, block)
    expected = np.stack([reference_aisfx(aisfx_tensors(), one) for one in block])
    assert abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


def test_musicnn_is_its_reference(musicnn_file):
    params = musicnn.read_params(musicnn_file)
    patch = np.random.default_rng(2).uniform(0, 4, (1, 40, 96)).astype(np.float32)
    found = jax.jit(musicnn.forward)(params, patch)
    tags = musicnn.tag_logits(params, found)
    embedding, logits = reference_musicnn(musicnn_tensors(), patch[0])
    np.testing.assert_allclose(found[0], embedding, atol=1e-5 * abs(embedding).max())
    np.testing.assert_allclose(tags[0], logits, atol=1e-5 * abs(logits).max())
    assert len(musicnn.TAGS) == len(set(musicnn.TAGS)) == tags.shape[-1]


def test_aisfx_hears_as_librosa_would(noise):
    mel = librosa.feature.melspectrogram(
        y=noise, sr=44_100, n_fft=2_048, hop_length=1_024, n_mels=96, fmax=22_050,
        htk=True, norm=None, pad_mode="constant",
    )  # fmt: skip
    area = librosa.filters.mel(
        sr=44_100, n_fft=2_048, n_mels=96, fmax=22_050, htk=True, norm=None
    ).sum(axis=1)
    expected = np.log10(1 + 1e4 * mel / area[None, :, None]) / 9.4578
    found = np.swapaxes(aisfx.log_mel(noise), 1, 2)
    # Two float32 transforms of 2048 samples, after a log.
    np.testing.assert_allclose(found, expected, atol=2e-5)
    filters = unit_sum_filters(96, 44_100, 2_048)
    np.testing.assert_allclose(filters.sum(axis=0), 1.0)


def test_musicnn_hears_as_librosa_would(noise):
    mel = librosa.feature.melspectrogram(
        y=noise, sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="constant"
    )
    expected = np.log10(1 + 1e4 * mel)
    found = np.swapaxes(musicnn.log_mel(noise), 1, 2)
    # Half precision rounds a power by at most 2^-11 of it; log10(e) of that.
    bound = 2.0**-11 * np.log10(np.e)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.01 * bound)
    assert abs(found - expected).max() > 0.5 * bound  # and it does round


@pytest.mark.parametrize(
    ("count", "starts"), [(10, [0]), (11, [0, 1]), (25, [0, 8, 15]), (20, [0, 10])]
)
def test_blocks_cover_every_frame(count, starts):
    frames = np.arange(count, dtype=np.float32)[None, :, None]
    found = np.asarray(even_blocks(frames, 10))[0, :, :, 0]
    np.testing.assert_array_equal(found, np.add.outer(starts, np.arange(10)))


def test_what_is_shorter_than_a_block_is_repeated():
    found = even_blocks(np.arange(4, dtype=np.float32)[None, :, None], 10)
    np.testing.assert_array_equal(found[0, 0, :, 0], [0, 1, 2, 3] * 2 + [0, 1])


def test_level_is_not_heard(noise):
    rms = np.sqrt(np.mean(np.square(levelled(noise)), axis=-1))
    np.testing.assert_allclose(rms, 0.1, rtol=1e-5)
    np.testing.assert_array_equal(levelled(np.zeros((1, 9), np.float32)), 0.0)


@pytest.mark.parametrize("name", ["aisfx", "musicnn"])
def test_embedding_of_clips_of_any_level(name, noise, aisfx_file, musicnn_file):
    network, paths = {
        "aisfx": (aisfx, aisfx_file),
        "musicnn": (musicnn, musicnn_file),
    }[name]
    params = network.read_params(paths)
    # One clip, its quarter and silence, behind two leading axes.
    clips = np.stack(
        [noise[:1, :4_000], 0.25 * noise[:1, :4_000], 0 * noise[:1, :4_000]]
    )
    found = np.asarray(jax.jit(network.embed, static_argnums=2)(params, clips, RATE_HZ))
    assert found.shape[:2] == (3, 1)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], found[1], atol=1e-4 * abs(found).max())
    assert abs(found[0] - found[2]).max() > 1e-2


def test_files_of_another_layout(tmp_path, aisfx_file, musicnn_file):
    tensors = aisfx_tensors()
    del tensors["embedding_net.conv_block3.bn2.bias"]
    path = write_aisfx(tmp_path / "less.pth", tensors)
    with pytest.raises(ValueError, match=r"lacks 'embedding_net.conv_block3.bn2.bias'"):
        aisfx.read_params({aisfx.CHECKPOINT: path})
    whole = aisfx_file[aisfx.CHECKPOINT].read_bytes()
    for raw in (b"", b"PK", whole[: len(whole) // 2], whole[:-9]):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"^weights are [^\n]+aiSFX's checkpoint"):
            aisfx.read_params({aisfx.CHECKPOINT: path})
    tensors = musicnn_tensors()
    del tensors["dense/kernel"]
    path = write_musicnn(tmp_path / "less.index", tensors)
    with pytest.raises(ValueError, match=r"musicnn's checkpoint \(it lacks 'dense/ker"):
        musicnn.read_params({musicnn.INDEX: path})
    data = musicnn_file[musicnn.INDEX].with_name(".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        musicnn.read_params(musicnn_file)
