"""MiniLM against transformers' BERT, live, on random weights."""

import jax
import numpy as np
import pytest

from marssep_jax.conversion.minilm import MINILM
from marssep_jax.encoders.minilm import MiniLmConfig, make_minilm
from tests.support.published import convert

torch = pytest.importorskip("torch")

SIZES = [
    MiniLmConfig(97, 24, 3, 3, 40, 30, 2, 1e-12, 0),
    MiniLmConfig(50, 16, 1, 4, 64, 20, 1, 1e-5, 3),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("config", SIZES)
def test_transformers(config, seed):
    transformers = pytest.importorskip("transformers")
    published = transformers.BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.mlp_width,
        max_position_embeddings=config.num_positions,
        type_vocab_size=config.num_segments,
        layer_norm_eps=config.eps,
        pad_token_id=config.pad_id,
    )
    assert MiniLmConfig.from_published(published.to_dict()) == config
    torch.manual_seed(seed)
    model = transformers.BertModel(published).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.rand(value.shape))
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    params = convert(MINILM, state)

    draw = np.random.default_rng(seed)
    ids = draw.integers(4, config.vocab_size, (3, 12))
    for row, length in enumerate((12, 1, 7)):
        ids[row, length:] = config.pad_id
    mask = torch.tensor((ids != config.pad_id).astype(int))
    with torch.no_grad():
        words = model(input_ids=torch.tensor(ids), attention_mask=mask)[0]
        real = mask[..., None].float()
        mean = (words * real).sum(1) / real.sum(1)
        expected = torch.nn.functional.normalize(mean, dim=-1)
    found = jax.jit(make_minilm(config).text)(params, ids)
    np.testing.assert_allclose(found, expected, atol=1e-6)
