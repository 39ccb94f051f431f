"""What every encoder promises, the reading of words and pictures, and the judge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from marssep_jax.config import EncoderConfig, FrontendConfig, JudgeConfig
from marssep_jax.encoders import make_encoder, make_judge
from marssep_jax.encoders.contract import normalise
from marssep_jax.encoders.image import fit_image, load_image
from marssep_jax.encoders.text import PAD_ID, tokenise
from marssep_jax.features import make_frontend

pytestmark = pytest.mark.usefixtures("quick_compile")

FRONTEND = FrontendConfig(num_samples=1_023, n_fft=256, hop=64, num_rows=16)
CONFIG = EncoderConfig(
    embed_dim=6,
    audio_widths=(8, 8),
    image_widths=(8, 8),
    image_size=12,
    text_length=24,
    text_buckets=64,
)
LENGTH = CONFIG.text_length


def clips(*lead, seed=0):
    draw = np.random.default_rng(seed).standard_normal((*lead, 1_023))
    return (0.1 * draw).astype(np.float32)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def encoder():
    """The encoder with its functions jitted once."""
    made = make_encoder(CONFIG, FRONTEND)
    names = ("audio", "audio_from_grid", "text", "image")
    return made._replace(**{name: jax.jit(getattr(made, name)) for name in names})


@pytest.fixture(scope="module")
def params(encoder):
    return encoder.init(jax.random.key(0))


@pytest.fixture(scope="module")
def judge():
    return make_judge(JudgeConfig(num_rows=8, width=8), FRONTEND, 5)


def inputs(*lead):
    """What each function of the encoder takes, with the given leading axes."""
    ids = tokenise(["a violin", "two flutes", "harp", "an old piano"], LENGTH)
    features = make_frontend(FRONTEND).analyse(jnp.asarray(clips(*lead)))
    return {
        "audio": clips(*lead),
        "audio_from_grid": features.log_mag,
        "text": np.resize(ids, (*lead, LENGTH)),
        "image": pixels(*lead, 12, 12, 3),
    }


def test_parameters_are_named_by_their_parts(params):
    assert set(params) == {
        *("audio", "audio_head", "text", "text_head", "image", "image_head"),
        "log_temperature",
    }
    # A weak type would be another after the first update.
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(params))
    # CLIP's start: a softmax at temperature 0.07.
    assert np.exp(params["log_temperature"]) == pytest.approx(0.07, rel=1e-3)


@pytest.mark.parametrize("name", ["audio", "audio_from_grid", "text", "image"])
def test_leading_axes_are_free_and_vectors_have_length_one(encoder, params, name):
    embed, value = getattr(encoder, name), inputs(1, 2, 2)[name]
    whole = embed(params, value)
    assert whole.shape == (1, 2, 2, 6)
    assert whole.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(whole, axis=-1), 1.0, atol=1e-6)
    flat = embed(params, value.reshape(4, *value.shape[3:]))
    np.testing.assert_allclose(whole.reshape(4, 6), flat, atol=1e-6)
    alone = embed(params, value[0, 1, 0])
    assert alone.shape == (6,)
    # Another batch size, another order of float32 sums.
    np.testing.assert_allclose(whole[0, 1, 0], alone, atol=1e-5)
    # Different inputs are told apart even before training.
    assert np.abs(flat[0] - flat[1]).max() > 1e-3


@pytest.mark.parametrize("gain", [0.01, 10.0])
def test_audio_embedding_ignores_gain(encoder, params, gain):
    wave = clips(4)
    plain, scaled = (encoder.audio(params, w) for w in (wave, np.float32(gain) * wave))
    # The grid's floor of 1e-10 is 1e-6 of a quiet bin at a hundredth of the level.
    np.testing.assert_allclose(scaled, plain, atol=1e-4)


def test_audio_is_heard_on_the_frontends_grid(encoder, params):
    wave = clips(4)
    log_mag = make_frontend(FRONTEND).analyse(jnp.asarray(wave)).log_mag
    # One jitted with the STFT, one without.
    np.testing.assert_allclose(
        encoder.audio(params, wave), encoder.audio_from_grid(params, log_mag), atol=1e-5
    )


def test_clips_of_any_length_are_heard(encoder, params):
    # One sample is one frame: padded by its edge to what the strides divide.
    for wave in (clips(1)[:, :1], np.tile(clips(1), 3)):
        norm = np.linalg.norm(encoder.audio(params, wave), axis=-1)
        np.testing.assert_allclose(norm, 1.0, atol=1e-6)


def test_silence_embeds_to_something_finite(encoder, params):
    silent = encoder.audio(params, np.zeros((4, 1_023), np.float32))
    assert np.isfinite(silent).all()


def test_normalise_by_hand():
    rows = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(normalise(rows), [[0.6, 0.8], [0.0, 0.0]], atol=1e-6)
    # A missing modality must not poison gradients.
    grad = jax.grad(lambda v: jnp.sum(normalise(v)))(jnp.zeros(3))
    assert np.isfinite(grad).all()


def test_spelling_of_case_and_spaces_does_not_matter(encoder, params):
    rows = tokenise(["a grand piano", "  A  Grand\tPIANO \n"], LENGTH)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows.dtype == np.int32
    embedded = encoder.text(params, rows)
    np.testing.assert_array_equal(embedded[0], embedded[1])


def test_tokens_are_bytes_and_an_end():
    # ByT5 keeps ids 0 to 2 for padding, end and unknown: byte b is b + 3.
    row = tokenise(["Ab é"], 8)[0]
    data = [b + 3 for b in "ab é".encode()]
    np.testing.assert_array_equal(row, [*data, 1, PAD_ID, PAD_ID])


def test_padding_does_not_matter(encoder, params):
    captions = ["a violin", "bassoon"]
    short, long = (tokenise(captions, length) for length in (12, LENGTH))
    assert (short.shape, long.shape) == ((2, 12), (2, LENGTH))
    # Sums with more zeros in them.
    np.testing.assert_allclose(
        encoder.text(params, short), encoder.text(params, long), atol=1e-6
    )


def test_long_captions_are_cut(encoder, params):
    row = tokenise(["the sound of a violin in an empty hall"], LENGTH)
    assert row.shape == (1, LENGTH)
    assert not np.any(row == PAD_ID)


@pytest.mark.parametrize("caption", ["", " ", "\n\t"])
def test_an_empty_caption_is_an_error(caption):
    with pytest.raises(ValueError, match="expected at least one letter") as error:
        tokenise(["a violin", caption], LENGTH)
    assert str(error.value).startswith(f"text is {caption!r}")


def test_pictures_are_read_as_bytes(encoder, params):
    image = pixels(1, 12, 12, 3)
    embedded = encoder.image(params, image)
    inverted = encoder.image(params, 255 - image)
    assert np.abs(embedded - inverted).max() > 1e-3


def test_a_file_and_its_pixels_are_the_same_picture(tmp_path):
    image = pixels(30, 50, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png", 12)
    assert loaded.shape == (12, 12, 3)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, fit_image(image, 12))


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_the_central_square_is_kept(shape):
    # Of 50 rows or columns, 10 at either end go; 0 is cut away, 200 stays.
    image = np.zeros((*shape, 3), np.uint8)
    image[shape[0] // 2 - 15 :, shape[1] // 2 - 15 :][:30, :30] = 200
    fitted = fit_image(image, 12)
    # The filter reaches 3 output pixels over the edge of the square.
    assert (fitted[3:-3, 3:-3] == 200).all()
    assert (fitted > 150).all()


def test_a_picture_of_the_right_size_stays_as_it_is():
    image = pixels(12, 12, 3)
    np.testing.assert_array_equal(fit_image(image, 12), image)


def test_transparent_pictures_lie_on_white(tmp_path):
    rgba = np.zeros((12, 12, 4), np.uint8)
    rgba[:6, :, 3] = 255  # black above, nothing below
    Image.fromarray(rgba).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png", 12)
    assert (loaded[:6] == 0).all()
    assert (loaded[6:] == 255).all()


def test_pictures_are_turned_upright(tmp_path):
    image = np.zeros((12, 12, 3), np.uint8)
    image[:, :6] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned, show it a quarter right
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    loaded = load_image(tmp_path / "a.png", 12)
    # A quarter turn to the right brings the left edge to the top.
    assert (loaded[:6] == 255).all()
    assert (loaded[6:] == 0).all()


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--image is '.*b\.png', expected an"):
        load_image(tmp_path / "b.png", 12, "--image")
    with pytest.raises(IsADirectoryError, match="expected a file, not a folder"):
        load_image(tmp_path, 12)


@pytest.mark.parametrize("damage", ["text", "empty", "cut"])
def test_a_damaged_picture_is_named(tmp_path, damage):
    path = tmp_path / "a.png"
    Image.fromarray(pixels(40, 40, 3)).save(path)
    whole = path.read_bytes()
    path.write_bytes(
        {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2]}[damage]
    )
    with pytest.raises(ValueError, match=r"path is '.*a\.png', expected a readable"):
        load_image(path, 12)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"pixels is float32 \(4, 4, 3\), expected"),
        (np.zeros((4, 4), np.uint8), r"pixels is uint8 \(4, 4\), expected uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"pixels is uint8 \(4, 4, 4\), expected"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"pixels is uint8 \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"pixels is uint8 \(0, 4, 3\), expected"),
    ],
)
def test_pixels_of_another_form_are_named(image, message):
    with pytest.raises(ValueError, match=message):
        fit_image(image, 12)


def test_judge_gives_probabilities_at_every_level(judge):
    params = judge.init(jax.random.key(0))
    log_prob = jax.jit(judge.log_prob)
    wave = clips(2, 3, 2)
    rows = log_prob(params, wave)
    assert rows.shape == (2, 3, 2, 5)
    np.testing.assert_allclose(np.exp(rows).sum(axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(rows[1, 2], log_prob(params, wave[1, 2]), atol=1e-5)
    np.testing.assert_allclose(log_prob(params, 10 * wave), rows, atol=1e-4)
    assert np.isfinite(log_prob(params, np.zeros_like(wave))).all()
