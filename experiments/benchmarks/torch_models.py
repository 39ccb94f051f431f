"""PyTorch references: OmniSep's separator and the small encoder of sound.

Written here, from a description of the published network and from ours. State
dicts of `Separator` have the published names, so that weights are converted by the
rules for published ones; `AudioEncoder` takes our parameters.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from marssep_jax.encoders.trimodal import AUDIO_STRIDE, RELATIVE_FLOOR

PUBLISHED = {
    "widths": (64, 128, 256, 512, 512, 512, 512),
    "num_channels": 32,
    "embed_dim": 1024,
}


class Block(nn.Module):
    """One level of the U-Net around the levels inside it."""

    def __init__(self, widths: Sequence[int], level: int, num_channels: int) -> None:
        super().__init__()
        last = len(widths) - 1
        self.outermost = level == 0
        inputs = 1 if level == 0 else widths[level - 1]
        outputs = num_channels if level == 0 else widths[level - 1]
        layers: list[Any] = [] if level == 0 else [nn.LeakyReLU(0.2)]
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

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Return the skip and what came out, channels on top of each other."""
        out = self.model(value)
        return out if self.outermost else torch.cat([value, out], 1)


class SoundNet(nn.Module):
    """The U-Net behind a norm of its input."""

    def __init__(self, widths: Sequence[int], num_channels: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(1)
        self.unet_block = Block(widths, 0, num_channels)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Map [b, 1, h, w] to [b, c, h, w]."""
        return self.unet_block(self.bn0(value))


class FrameNet(nn.Module):
    """The query's linear layer."""

    def __init__(self, embed_dim: int, num_channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(embed_dim, num_channels)


class SynthNet(nn.Module):
    """Scales and bias of the head."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(1))


class Separator(nn.Module):
    """OmniSep's separator."""

    def __init__(
        self, widths: Sequence[int], num_channels: int, embed_dim: int
    ) -> None:
        super().__init__()
        self.sound_net = SoundNet(widths, num_channels)
        self.frame_net = FrameNet(embed_dim, num_channels)
        self.synth_net = SynthNet(num_channels)

    def forward(self, log_mag: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Return logits [b, k, h, w] of log magnitudes [b, h, w], queries [b, k, d]."""
        sound = self.sound_net(log_mag[:, None])
        gate = torch.sigmoid(self.frame_net.fc(query)) * self.synth_net.scale
        return torch.einsum("bkc,bchw->bkhw", gate, sound) + self.synth_net.bias


class AudioEncoder(nn.Module):
    """The small encoder's hearing, on log magnitudes, as strided convolutions."""

    floor: torch.Tensor

    def __init__(self, widths: Sequence[int], num_rows: int, embed_dim: int) -> None:
        super().__init__()
        self.strides = (AUDIO_STRIDE, *(2 for _ in widths[1:]))
        inputs = (1, *widths[:-1])
        shapes = list(zip(inputs, widths, self.strides, strict=True))
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 2 * stride, stride, bias=False) for i, o, stride in shapes
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(width // 8, width, eps=1e-6) for width in widths
        )
        rows = num_rows // int(np.prod(self.strides))
        self.head = nn.Linear(2 * widths[-1] * rows, embed_dim, bias=False)
        floor = torch.tensor(RELATIVE_FLOOR).log()
        self.register_buffer("floor", floor, persistent=False)

    def forward(self, log_mag: torch.Tensor) -> torch.Tensor:
        """Return unit vectors [b, d] of log magnitudes [b, h, w]."""
        power = torch.logsumexp(2.0 * log_mag, dim=(-2, -1), keepdim=True)
        level = 0.5 * (power - np.log(log_mag[0].numel()))
        value = torch.logaddexp(log_mag - level, self.floor)[:, None]
        for conv, norm, stride in zip(
            self.convs, self.norms, self.strides, strict=True
        ):
            value = functional.pad(value, (0, stride, 0, stride))
            value = functional.silu(norm(conv(value)))
        pooled = torch.cat([value.mean(3), value.amax(3)], 1)
        hidden = pooled.transpose(1, 2).flatten(1)
        return functional.normalize(self.head(hidden), dim=-1)

    def load_ours(self, params: Any) -> None:
        """Take the parameters of `marssep_jax.encoders.make_encoder`."""
        (trunk,) = params["audio"].values()
        with torch.no_grad():
            for level, stride in enumerate(self.strides):
                block = trunk[f"ConvBlock_{level}"]
                kernel = np.asarray(block["Conv_0"]["kernel"])
                _, _, folded, width = kernel.shape
                # [2, 2, (row, column, channel), width]: neighbours were folded.
                parts = kernel.reshape(2, 2, stride, stride, folded // stride**2, width)
                weight = parts.transpose(5, 4, 0, 2, 1, 3)
                weight = weight.reshape(width, -1, 2 * stride, 2 * stride)
                _fill(self.convs[level].weight, weight)
                norm = block["GroupNorm_0"]
                _fill(self.norms[level].weight, norm["scale"])
                _fill(self.norms[level].bias, norm["bias"])
            head = np.asarray(params["audio_head"]["kernel"])
            _fill(self.head.weight, head.T)


def _fill(parameter: Any, values: Any) -> None:
    """Write an array into a parameter, which torch types loosely in a list."""
    parameter.copy_(torch.tensor(np.asarray(values)))
