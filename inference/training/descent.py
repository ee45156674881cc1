"""Learning by gradient, for the heads that need it: as long on a busy machine as on an idle one, to the very same end.

The end is so many steps and no time on a clock, so that the same images and seed give the same bundle anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from config.errors import InputError
from inference.training.backbones.layers import Convolution, frozen, rounded
from inference.training.progress import Progress

WARM_SHARE = 0.1  # of the steps, over which the rate rises
SETTLING_STEPS = 32


class DescentOptions(BaseModel):
    """What can be chosen of learning by gradient; it ends after `epochs` or `steps`, whichever comes first."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    epochs: int = Field(default=20, ge=1, le=10_000, description="how often each image is learnt from, at most")
    steps: int = Field(default=400, ge=1, le=1_000_000, description="steps of learning, at most")
    batch: int = Field(default=8, ge=2, le=256, description="images in a step")
    rate: float = Field(default=0.005, gt=0.0, le=1.0, description="highest learning rate")


def learnable(network: nn.Module) -> None:
    """Free a network's weights, and put a batch norm behind every `Convolution`, without which none this deep learns.

    Ioffe and Szegedy, "Batch Normalization", ICML 2015. `descend` folds them away again.
    """
    network.requires_grad_(requires_grad=True)
    for module in list(network.modules()):
        if isinstance(module, Convolution):
            assert module.conv.bias is not None  # noqa: S101 - tells mypy that Conv2d was built with a bias
            nn.init.zeros_(module.conv.bias)
            module.conv.bias.requires_grad = False  # the norm has one
            module.register_module("conv", nn.Sequential(module.conv, nn.BatchNorm2d(module.conv.out_channels)))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs know it for tensors alone


def descend(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    images: int,
    options: DescentOptions,
    seed: int,
    progress: Progress,
) -> list[float]:
    """Lower `loss`, which is given the places (B,) of a batch among so many images, and return it at each step.

    Adam (Kingma and Ba, ICLR 2015) with a rate that rises to `options.rate` and falls to nothing along a cosine. Then
    batch norms take their means from the images as the network sees them at last, and are folded into their
    convolutions; all weights are rounded to float16's precision and frozen. Raise InputError where the loss is no
    finite number.
    """
    steps = min(options.steps, options.epochs * math.ceil(images / options.batch))
    optimiser = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], lr=options.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_share(step, steps))
    network.train()
    losses = []
    for step, places in enumerate(batches(images, options.batch, steps, seed), 1):
        optimiser.zero_grad()
        value = loss(places)
        losses.append(float(value.detach()))
        if not math.isfinite(losses[-1]):
            raise InputError(
                f"learning failed: the loss is {losses[-1]} at step {step} of {steps}; "
                f"try a lower rate than {options.rate:g}"
            )
        value.backward()  # type: ignore[no-untyped-call] # torch leaves it so
        optimiser.step()
        schedule.step()
        progress("fit", step, steps)
    _settle(network, loss, images, options.batch, seed)
    _fold(network)
    return losses


def rate_share(step: int, steps: int) -> float:
    """Return the share of the highest rate at a step from 0."""
    return min(1.0, (step + 1) / math.ceil(WARM_SHARE * steps)) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def batches(images: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield the places (B,) of each step's images: all come up equally often, in another order every time."""
    generator = torch.Generator().manual_seed(seed)
    batch = min(batch, images)
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(images, generator=generator)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def _settle(network: nn.Module, loss: Callable[[Tensor], Tensor], images: int, batch: int, seed: int) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all that follow
    if norms:
        with torch.no_grad():
            for places in batches(images, batch, min(SETTLING_STEPS, math.ceil(images / batch)), seed):
                loss(places)


def _fold(network: nn.Module) -> None:
    frozen(network)
    for module in list(network.modules()):
        if isinstance(module, Convolution) and isinstance(module.conv, nn.Sequential):
            module.register_module("conv", fuse_conv_bn_eval(*module.conv))
    for weight in network.parameters():
        weight.data = rounded(weight.data).contiguous()
    frozen(network)
