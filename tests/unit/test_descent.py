from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from config.errors import InputError
from inference.training.backbones.layers import Convolution, rounded
from inference.training.descent import DescentOptions, batches, descend, learnable, rate_share
from inference.training.progress import unheard

OPTIONS = DescentOptions(epochs=30, batch=4, rate=0.02)


def network_and_images() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(Convolution(3, 8, 3, clamp=(0.0, 6.0)), Convolution(8, 2, 3, stride=2))
        return network, torch.rand(10, 3, 16, 16)


def learn(network: nn.Module, images: Tensor, options: DescentOptions = OPTIONS, seed: int = 0) -> list[float]:
    wanted = torch.stack([images.mean(dim=1), images.amax(dim=1)], dim=1)[:, :, ::2, ::2]
    learnable(network)
    return descend(network, lambda p: (network(images[p]) - wanted[p]).square().mean(), 10, options, seed, unheard)


def test_the_loss_falls_and_the_network_is_as_good_afterwards() -> None:
    network, images = network_and_images()
    losses = learn(network, images)
    assert len(losses) == 30 * 3
    assert sum(losses[-5:]) < sum(losses[:5]) / 5
    wanted = torch.stack([images.mean(dim=1), images.amax(dim=1)], dim=1)[:, :, ::2, ::2]
    assert (network(images) - wanted).square().mean() < 1.5 * sum(losses[-5:]) / 5  # norms folded, weights rounded


def test_what_was_learnt_is_plain_convolutions_that_float16_holds() -> None:
    network, images = network_and_images()
    learn(network, images, DescentOptions(steps=2, batch=4))
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert isinstance(network.get_submodule("0.conv"), nn.Conv2d)
    for weight in network.parameters():
        assert torch.equal(weight, rounded(weight))
        assert not weight.requires_grad


def test_the_same_seed_learns_the_same_and_another_one_does_not() -> None:
    found = []
    for seed in (3, 3, 4):
        network, images = network_and_images()
        learn(network, images, DescentOptions(epochs=2, batch=4), seed)
        found.append(torch.cat([weight.flatten() for weight in network.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_loss_that_is_no_number_names_the_step_and_the_rate() -> None:
    network, images = network_and_images()
    images[7] = float("nan")
    with pytest.raises(InputError, match=r"the loss is nan at step \d of 3; try a lower rate than 0.02"):
        learn(network, images, DescentOptions(epochs=1, batch=4, rate=0.02))


def test_progress_reaches_its_total_by_whichever_limit_comes_first() -> None:
    for options, total in ((DescentOptions(epochs=2, batch=4), 6), (DescentOptions(epochs=9, steps=5, batch=4), 5)):
        network, images = network_and_images()
        learnable(network)
        told: list[tuple[str, int, int]] = []
        descend(network, lambda p: network(images[p]).square().mean(), 10, options, 0, lambda *at: told.append(at))  # noqa: B023 - called within this turn
        assert told == [("fit", step, total) for step in range(1, total + 1)]


@pytest.mark.parametrize(("images", "batch"), [(10, 4), (3, 8), (8, 8)])
def test_all_images_come_up_equally_often(images: int, batch: int) -> None:
    places = list(batches(images, batch, 40, 0))
    assert {len(some) for some in places} == {min(images, batch)}
    counts = torch.bincount(torch.cat(places), minlength=images)
    assert counts.max() - counts.min() <= 1


def test_the_rate_rises_and_falls() -> None:
    shares = [rate_share(step, 100) for step in range(100)]
    assert shares[0] < 0.2
    assert max(shares) == max(shares[5:15])
    assert shares[-1] < 0.01
    assert rate_share(0, 1) == 1.0
