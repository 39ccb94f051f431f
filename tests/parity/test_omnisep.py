"""Our separator with converted weights against the same network in PyTorch.

The PyTorch side is written here, from the description of the published network.
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
nn = torch.nn

PUBLISHED = {
    "widths": (64, 128, 256, 512, 512, 512, 512),
    "num_channels": 32,
    "embed_dim": 1024,
}


class Block(nn.Module):
    def __init__(self, widths, level, num_channels):
        super().__init__()
        last = len(widths) - 1
        self.outermost = level == 0
        inputs = 1 if level == 0 else widths[level - 1]
        outputs = num_channels if level == 0 else widths[level - 1]
        layers = [] if level == 0 else [nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(inputs, widths[level], 4, 2, 1, bias=False))
        if 0 < level < last:
            layers.append(nn.BatchNorm2d(widths[level]))
        if level < last:
            layers.append(Block(widths, level + 1, num_channels))
        layers += [
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(
                widths[level] * (1 if level == last else 2),
                outputs,
                3,
                padding=1,
                bias=level == 0,
            ),
        ]
        if level > 0:
            layers.append(nn.BatchNorm2d(outputs))
        self.model = nn.Sequential(*layers)

    def forward(self, value):
        out = self.model(value)
        return out if self.outermost else torch.cat([value, out], 1)


class SoundNet(nn.Module):
    def __init__(self, widths, num_channels):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(1)
        self.unet_block = Block(widths, 0, num_channels)

    def forward(self, value):
        return self.unet_block(self.bn0(value))


class FrameNet(nn.Module):
    def __init__(self, embed_dim, num_channels):
        super().__init__()
        self.fc = nn.Linear(embed_dim, num_channels)


class SynthNet(nn.Module):
    def __init__(self, num_channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(1))


class Separator(nn.Module):
    def __init__(self, widths=WIDTHS, num_channels=NUM_CHANNELS, embed_dim=EMBED_DIM):
        super().__init__()
        self.sound_net = SoundNet(widths, num_channels)
        self.frame_net = FrameNet(embed_dim, num_channels)
        self.synth_net = SynthNet(num_channels)

    def forward(self, log_mag, query):
        """Return logits [b, k, h, w] of log magnitudes [b, h, w], queries [b, k, d]."""
        sound = self.sound_net(log_mag[:, None])
        gate = torch.sigmoid(self.frame_net.fc(query)) * self.synth_net.scale
        return torch.einsum("bkc,bchw->bkhw", gate, sound) + self.synth_net.bias


def inputs(rows, columns, embed_dim):
    generator = np.random.default_rng(1)
    log_mag = 2 * generator.standard_normal((2, rows, columns)) - 3
    query = generator.standard_normal((2, 3, embed_dim))
    return log_mag.astype(np.float32), query.astype(np.float32)


def both(path, sizes, rows, columns):
    """Return PyTorch's logits and ours for the same weights, through a file."""
    published = Separator(**sizes).eval()
    state = {key: torch.as_tensor(v) for key, v in checkpoint(**sizes).items()}
    wrapped = nn.Module()
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
    theirs, ours, _ = both(tmp_path / "a.pth", {}, 256, 48)
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
def test_published_size(tmp_path):
    theirs, ours, count = both(tmp_path / "a.pth", PUBLISHED, 256, 256)
    assert count == 30_307_043
    assert theirs.std() > 0.1
    # Float32 sums of thousands of products, in two orders, through 14 layers.
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    mask, expected = (1 / (1 + np.exp(-logits)) for logits in (ours, theirs))
    np.testing.assert_allclose(mask, expected, atol=1e-4)
