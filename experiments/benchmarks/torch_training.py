"""The supervised and the policy step in PyTorch, as a user would write them.

One loop over the targets and one over the masks of the group; `torch.distributions`
for the Beta, automatic differentiation for the rest. The work is that of
`marssep_jax.update`, hyperparameters and all. Everything is float32, apart from what
the network does inside; `torch_steps` decides that, the device and whether to compile.
"""

import math
from collections.abc import Callable

import torch
from torch.distributions import Beta, kl_divergence
from torch.nn import functional

from experiments.benchmarks.torch_models import AudioEncoder, Separator
from marssep_jax.advantages import ADVANTAGE_EPS
from marssep_jax.config import FrontendConfig
from marssep_jax.objectives import SILENCE_FLOOR, WEIGHT_MAX, WEIGHT_MIN
from marssep_jax.sampling import MASK_MARGIN

KAPPA, CLIP_EPS, ENTROPY_COEF, KL_COEF, CLIP_NORM = 9.0, 0.2, 0.1, 0.01, 1.0

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits [b, k, h, w] of log magnitudes [b, h, w] and queries [b, k, d]."""


class Frontend:
    """STFT and log-frequency grid, the grid by a bilinear sampler.

    Attributes:
      config: geometry.
      window: of the STFT, on the device that everything has to be on.
    """

    def __init__(self, config: FrontendConfig, device: str = "cpu") -> None:
        self.config = config
        self.window = torch.hann_window(config.n_fft, device=device)
        base = config.warp_base
        half_sum, half_gap = (base + 1) / 2, (base - 1) / 2
        rows = torch.linspace(-1, 1, config.num_rows, dtype=torch.float64)
        bins = torch.linspace(-1, 1, config.num_bins, dtype=torch.float64)
        row_bins = (base ** ((rows + 1) / 2) - half_sum) / half_gap
        bin_rows = 2 * torch.log(half_gap * bins + half_sum) / math.log(base) - 1
        self._row_bins = _places(row_bins, config.num_frames).to(device)
        self._bin_rows = _places(bin_rows, config.num_frames).to(device)

    def stft(self, waveform: torch.Tensor) -> torch.Tensor:
        """Transform [b, t] to [b, f, n]."""
        return torch.stft(
            waveform,
            self.config.n_fft,
            self.config.hop,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )

    def istft(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Invert `stft` to the clip's length."""
        return torch.istft(
            spectrum,
            self.config.n_fft,
            self.config.hop,
            window=self.window,
            length=self.config.num_samples,
        )

    def warp(self, magnitude: torch.Tensor) -> torch.Tensor:
        """Map [b, f, n] to [b, h, w]."""
        return self._sample(magnitude, self._row_bins)

    def unwarp(self, mask: torch.Tensor) -> torch.Tensor:
        """Map [b, h, w] to [b, f, n]."""
        return self._sample(mask, self._bin_rows)

    def log_magnitude(
        self, spectrum: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return magnitudes [b, h, w] of a spectrum on the grid, and their logs."""
        magnitude = self.warp(spectrum.abs() + self.config.log_floor)
        return magnitude, magnitude.log()

    @staticmethod
    def _sample(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        grid = places.expand(len(values), -1, -1, -1)
        return functional.grid_sample(values[:, None], grid, align_corners=True)[:, 0]


def _places(rows: torch.Tensor, num_columns: int) -> torch.Tensor:
    """Return where a sampler looks [1, h, w, 2] for rows between -1 and 1."""
    columns = torch.linspace(-1, 1, num_columns, dtype=rows.dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1)[None].float()


def supervised_loss(
    model: Network, frontend: Frontend, target: torch.Tensor, query: torch.Tensor
) -> torch.Tensor:
    """Return the weighted cross-entropy against binary masks.

    Args:
      model: the separator.
      frontend: signal front end.
      target: waveforms [b, k, t]; the mixture is their sum.
      query: [b, k, d].
    """
    spectra = [frontend.stft(target[:, k]) for k in range(target.shape[1])]
    magnitude, log_mag = frontend.log_magnitude(sum(spectra[1:], spectra[0]))
    proposal = torch.sigmoid(model(log_mag, query))
    weight = magnitude.log1p().clamp(WEIGHT_MIN, WEIGHT_MAX)
    losses = []
    for k, spectrum in enumerate(spectra):
        wins = frontend.warp(spectrum.abs()) > 0.5 * (magnitude + SILENCE_FLOOR)
        losses.append(
            functional.binary_cross_entropy(proposal[:, k], wins.float(), weight)
        )
    return torch.stack(losses).mean()


def descend(
    model: Separator, optimiser: torch.optim.Optimizer, loss: torch.Tensor
) -> float:
    """Take one step down a loss, with clipped gradients."""
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimiser.step()
    return loss.item()


def beta(proposal: torch.Tensor) -> Beta:
    """Return the mask policy around a proposal."""
    alpha, other = 1.0 + KAPPA * proposal, 1.0 + KAPPA * (1.0 - proposal)
    return Beta(alpha, other, validate_args=False)


def hear(
    frontend: Frontend, encoder: AudioEncoder, waveform: torch.Tensor
) -> torch.Tensor:
    """Embed waveforms [b, t] as [b, d]."""
    return encoder(frontend.log_magnitude(frontend.stft(waveform))[1])


@torch.no_grad()
def rewards(
    frontend: Frontend,
    encoder: AudioEncoder,
    mask: torch.Tensor,
    mixture: torch.Tensor,
    anchors: list[torch.Tensor],
) -> torch.Tensor:
    """Return the cosines [b, k] of masked mixtures and anchors.

    Args:
      frontend: signal front end.
      encoder: who hears.
      mask: [b, k, h, w].
      mixture: spectrum [b, f, n].
      anchors: embeddings [b, d] of each target.
    """
    found = []
    for k, anchor in enumerate(anchors):
        estimate = frontend.istft(frontend.unwarp(mask[:, k]) * mixture)
        heard = hear(frontend, encoder, estimate)
        found.append(functional.cosine_similarity(heard, anchor))
    return torch.stack(found, 1)


def policy_loss(
    proposal: torch.Tensor,
    old: Beta,
    masks: list[torch.Tensor],
    reward: torch.Tensor,
) -> torch.Tensor:
    """Return the clipped objective with entropy and KL, to be minimised.

    Args:
      proposal: P [b, k, h, w] of the policy that learns.
      old: the policy that sampled.
      masks: a group of samples, each [b, k, h, w].
      reward: [g, b, k].
    """
    deviation = reward.std(0, correction=0)
    advantage = (reward - reward.mean(0)) / (deviation + ADVANTAGE_EPS)
    policy = beta(proposal)
    gains = []
    for mask, gain in zip(masks, advantage, strict=True):
        ratio = torch.exp(policy.log_prob(mask) - old.log_prob(mask))
        gain = gain[..., None, None]
        near = ratio.clamp(1.0 - CLIP_EPS, 1.0 + CLIP_EPS)
        gains.append(torch.minimum(ratio * gain, near * gain).mean())
    objective = torch.stack(gains).mean()
    kl = kl_divergence(policy, old).mean()
    return -objective - ENTROPY_COEF * policy.entropy().mean() + KL_COEF * kl


def sampled_policy_loss(
    model: Network,
    frontend: Frontend,
    encoder: AudioEncoder,
    target: torch.Tensor,
    query: torch.Tensor,
    group_size: int,
) -> torch.Tensor:
    """Sample a group of masks, let the encoder hear them, and return the loss.

    Args:
      model: the separator, in evaluation mode.
      frontend: signal front end.
      encoder: who hears.
      target: waveforms [b, k, t]; the mixture is their sum.
      query: [b, k, d].
      group_size: masks of each target.
    """
    num_targets = target.shape[1]
    mixture = frontend.stft(target.sum(1))
    proposal = torch.sigmoid(model(frontend.log_magnitude(mixture)[1], query))
    with torch.no_grad():
        old = beta(proposal.detach())
        anchors = [hear(frontend, encoder, target[:, k]) for k in range(num_targets)]
        masks, found = [], []
        for _ in range(group_size):
            mask = old.sample().clamp(MASK_MARGIN, 1.0 - MASK_MARGIN)
            masks.append(mask)
            found.append(rewards(frontend, encoder, mask, mixture, anchors))
    return policy_loss(proposal, old, masks, torch.stack(found))
