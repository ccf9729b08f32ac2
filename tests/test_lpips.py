"""LPIPS against a plain rewrite; which weights count, and what is said of damaged ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exgs_viewer import lpips
from exgs_viewer.errors import WeightsError

CHANNELS = (64, 192, 384, 256, 256)


@pytest.fixture(scope="module")
def alexnet() -> nn.Sequential:
    """AlexNet's features as torchvision builds them, untrained."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


@pytest.fixture(scope="module")
def heads() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, channels, 1, 1, generator=generator) for channels in CHANNELS]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder in which weights are looked for."""
    monkeypatch.setattr(lpips, "_folders", lambda: [tmp_path])
    return tmp_path


@pytest.fixture
def stored(folder, alexnet, heads):
    torch.save({f"features.{key}": value for key, value in alexnet.state_dict().items()}, folder / "alexnet-1.pth")
    torch.save({f"lin{n}.model.1.weight": head for n, head in enumerate(heads)}, folder / "alex.pth")
    return folder


def plain_lpips(net: nn.Sequential, heads: list[torch.Tensor], a: torch.Tensor, b: torch.Tensor) -> float:
    """Zhang et al. 2018, equation 1."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = torch.stack([((picture * 2 - 1) - shift) / scale for picture in (a, b)]).permute(0, 3, 1, 2)
    total, compared = 0.0, iter(heads)
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            total += float(((unit[:1] - unit[1:]) ** 2 * next(compared)).sum(1).mean())
    return total


def test_it_measures_what_its_equation_says(stored, alexnet, heads):
    generator = torch.Generator().manual_seed(2)
    a, b = torch.rand(2, 70, 91, 3, generator=generator)
    measure = lpips.open_lpips()
    assert measure.name == "alex"
    with torch.no_grad():
        assert measure(a, b) == pytest.approx(plain_lpips(alexnet, heads, a, b), rel=1e-5)
    assert measure(a, a) == 0


def test_without_weights_nothing_is_measured(folder):
    assert lpips.open_lpips() is None


def test_a_backbone_without_heads_is_not_lpips(stored):
    (stored / "alex.pth").unlink()
    assert lpips.find() is None


@pytest.mark.parametrize("name", ["alexnet-1.pth", "alex.pth"])
def test_a_damaged_file_is_named(stored, name):
    (stored / name).write_bytes((stored / name).read_bytes()[:100])
    with pytest.raises(WeightsError, match=name):
        lpips.open_lpips()


def test_weights_of_another_network_are_refused(stored, heads):
    torch.save({f"lin{n}.model.1.weight": head for n, head in enumerate(heads[1:])}, stored / "alex.pth")
    with pytest.raises(WeightsError, match="not LPIPS for alex"):
        lpips.open_lpips()


def test_weights_come_from_the_user_folder_too(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert [folder.name for folder in lpips._folders()[:3]] == ["lpips", "lpips", "checkpoints"]
    assert tmp_path / "torch" / "hub" / "checkpoints" in lpips._folders()
