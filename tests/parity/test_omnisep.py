"""Our separator with converted weights against the same network in PyTorch.

The PyTorch side is the reference of the timings, written from the description of the
published network.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.conversion import omnisep
from marssep_jax.conversion.apply import apply_rules
from marssep_jax.conversion.sources import open_source
from marssep_jax.models import make_separator
from tests.support.omnisep_keys import EMBED_DIM, NUM_CHANNELS, WIDTHS, checkpoint

torch = pytest.importorskip("torch")
torch_models = pytest.importorskip("experiments.benchmarks.torch_models")

SMALL = {"widths": WIDTHS, "num_channels": NUM_CHANNELS, "embed_dim": EMBED_DIM}


def inputs(rows, columns, embed_dim):
    generator = np.random.default_rng(1)
    log_mag = 2 * generator.standard_normal((2, rows, columns)) - 3
    query = generator.standard_normal((2, 3, embed_dim))
    return log_mag.astype(np.float32), query.astype(np.float32)


def both(path, sizes, rows, columns):
    """Return PyTorch's logits and ours for the same weights, through a file."""
    published = torch_models.Separator(**sizes).eval()
    state = {key: torch.as_tensor(v) for key, v in checkpoint(**sizes).items()}
    wrapped = torch.nn.Module()
    wrapped.module = published  # as data-parallel training has it
    wrapped.load_state_dict(state)
    torch.save(wrapped.state_dict(), path)
    log_mag, query = inputs(rows, columns, published.frame_net.fc.in_features)
    with torch.no_grad():
        theirs = published(torch.as_tensor(log_mag), torch.as_tensor(query)).numpy()
    source = open_source(path)
    config = omnisep.configure(source)
    tree = apply_rules(omnisep.rules(source), source, omnisep.shapes(config)).tree()
    apply = make_separator(config).apply
    ours, _ = apply(
        tree["params"], tree["model_state"], jnp.asarray(log_mag), jnp.asarray(query)
    )
    return theirs, np.asarray(ours), sum(p.numel() for p in published.parameters())


def test_small(tmp_path):
    theirs, ours, _ = both(tmp_path / "a.pth", SMALL, 256, 48)
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
def test_published_size(tmp_path):
    theirs, ours, count = both(tmp_path / "a.pth", torch_models.PUBLISHED, 256, 256)
    assert count == 30_307_043
    assert theirs.std() > 0.1
    # Float32 sums of thousands of products, in two orders, through 14 layers.
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    mask, expected = (1 / (1 + np.exp(-logits)) for logits in (ours, theirs))
    np.testing.assert_allclose(mask, expected, atol=1e-4)
