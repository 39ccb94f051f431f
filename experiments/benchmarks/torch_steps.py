"""The PyTorch steps that `updates` times."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping

import jax
import torch
from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

from experiments.benchmarks import references
from experiments.benchmarks.rows import NotMeasuredError
from experiments.benchmarks.timing import Job
from experiments.benchmarks.torch_models import AudioEncoder, Separator
from experiments.benchmarks.torch_training import (
    Frontend,
    Network,
    descend,
    sampled_policy_loss,
    supervised_loss,
)
from experiments.benchmarks.updates import (
    POLICY_RATE,
    SUPERVISED_RATE,
    WEIGHT_DECAY,
    Sizes,
)
from marssep_jax.encoders import make_encoder
from marssep_jax.types import MixtureBatch

# The first call compiles, and a second would if the first left something behind that
# the compiled code depends on.
WARM_CALLS = 2


def torch_steps(
    sizes: Sizes,
    batch: MixtureBatch,
    device: str = "cpu",
    precision: str = "float32",
    *,
    compiled: bool = False,
) -> dict[str, Job]:
    """Return PyTorch's two steps, each with a model of its own.

    Args:
      sizes: what is trained.
      batch: of `updates.draw_batch`.
      device: of `references.torch_device`.
      precision: float32, or bfloat16 for mixed precision inside the network.
      compiled: whether `torch.compile` gets the losses, network and all. The
        steps returned have been compiled; before them, whatever was is forgotten.

    Raises:
      NotMeasuredError: they cannot be compiled here.
    """
    config = sizes.separator
    torch.manual_seed(0)
    frontend = Frontend(sizes.frontend, device)
    students = [
        Separator(config.widths, config.num_channels, config.embed_dim).to(device)
        for _ in range(2)
    ]
    learner, actor = students[0].train(), students[1].eval()
    learn, act = (_at_precision(model, device, precision) for model in students)
    ours = make_encoder(sizes.encoder, sizes.frontend)
    encoder = AudioEncoder(
        sizes.encoder.audio_widths, sizes.frontend.num_rows, ours.embed_dim
    ).eval()
    encoder.load_ours(jax.device_get(ours.init(jax.random.key(1))))
    encoder.to(device)
    target, query = (
        torch.tensor(values, device=device) for values in (batch.target, batch.query)
    )
    adam = torch.optim.Adam(learner.parameters(), SUPERVISED_RATE)
    adamw = torch.optim.AdamW(
        actor.parameters(), POLICY_RATE, weight_decay=WEIGHT_DECAY
    )
    imitate: Callable[..., torch.Tensor] = supervised_loss
    explore: Callable[..., torch.Tensor] = sampled_policy_loss
    if compiled:
        # It keeps a few versions of a function, of all models and sizes together.
        torch.compiler.reset()
        with _quiet():  # its import says that parts of it are deprecated
            imitate, explore = torch.compile(imitate), torch.compile(explore)

    def supervised() -> float:
        loss = imitate(learn, frontend, target, query)
        return taken(learner, adam, loss)

    def policy() -> float:
        loss = explore(act, frontend, encoder, target, query, sizes.group_size)
        return taken(actor, adamw, loss)

    def taken(
        model: Separator, optimiser: torch.optim.Optimizer, loss: torch.Tensor
    ) -> float:
        value = descend(model, optimiser, loss)
        references.finish(device)  # the loss is there before the parameters are
        return value

    steps: dict[str, Job] = {"supervised": supervised, "policy": policy}
    if compiled:
        _compile(steps)
    return steps


def _at_precision(model: Separator, device: str, precision: str) -> Network:
    """Return a network with logits in float32."""
    if precision == "float32":
        return model

    def mixed(log_mag: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, getattr(torch, precision)):
            logits = model(log_mag, query)
        return logits.float()

    return mixed


def _compile(steps: Mapping[str, Job]) -> None:
    """Let steps compile what they need.

    Raises:
      NotMeasuredError: that fails, as without a C++ compiler.
    """
    try:
        with _quiet():  # spectra are complex, which it leaves as they are, and says so
            for step in steps.values():
                for _ in range(WARM_CALLS):
                    step()
    except TorchDynamoException as error:
        raise NotMeasuredError(f"torch.compile fails: {_cause(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _cause(error: Exception) -> str:
    """Return in a line what went wrong, without the advice below it."""
    if isinstance(error, BackendCompilerFailed):
        error = error.inner_exception
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    if more and first.endswith(":"):  # another process failed: a traceback follows
        first = more[-1]
    return first.rstrip(".")
