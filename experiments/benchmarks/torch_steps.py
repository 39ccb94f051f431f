"""The PyTorch steps that `updates` times."""

import jax
import torch

from experiments.benchmarks.timing import Job
from experiments.benchmarks.torch_models import AudioEncoder, Separator
from experiments.benchmarks.torch_training import (
    Frontend,
    descend,
    sampled_policy_loss,
    supervised_loss,
)
from experiments.benchmarks.updates import (
    GROUP_SIZE,
    POLICY_RATE,
    SUPERVISED_RATE,
    WEIGHT_DECAY,
    Sizes,
)
from marssep_jax.encoders import make_encoder
from marssep_jax.types import MixtureBatch


def torch_steps(sizes: Sizes, batch: MixtureBatch) -> dict[str, Job]:
    """Return PyTorch's two steps, each with a model of its own."""
    config = sizes.separator
    torch.manual_seed(0)
    frontend = Frontend(sizes.frontend)
    students = [
        Separator(config.widths, config.num_channels, config.embed_dim)
        for _ in range(2)
    ]
    learner, actor = students[0].train(), students[1].eval()
    ours = make_encoder(sizes.encoder, sizes.frontend)
    encoder = AudioEncoder(
        sizes.encoder.audio_widths, sizes.frontend.num_rows, ours.embed_dim
    ).eval()
    encoder.load_ours(jax.device_get(ours.init(jax.random.key(1))))
    target, query = torch.tensor(batch.target), torch.tensor(batch.query)
    adam = torch.optim.Adam(learner.parameters(), SUPERVISED_RATE)
    adamw = torch.optim.AdamW(
        actor.parameters(), POLICY_RATE, weight_decay=WEIGHT_DECAY
    )

    def supervised() -> float:
        loss = supervised_loss(learner, frontend, target, query)
        return descend(learner, adam, loss)

    def policy() -> float:
        loss = sampled_policy_loss(actor, frontend, encoder, target, query, GROUP_SIZE)
        return descend(actor, adamw, loss)

    return {"torch_supervised": supervised, "torch_policy": policy}
