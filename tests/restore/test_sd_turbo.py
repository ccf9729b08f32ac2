"""The paper's preset on weights of the user: every published layout is found, every fault is told in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from exgs_viewer import images, networks
from exgs_viewer.errors import WeightsError
from exgs_viewer.restore import open_restorer, sd_turbo
from exgs_viewer.restore.sd_turbo import find_base, load_base
from exgs_viewer.restore.weights import write_painter
from tests.conftest import drawn
from tests.restore.test_painter import TINY_TURBO, frames, painter
from tests.restore.test_painting import FULL, KEPT, torn

MODEL = "diffusion_pytorch_model"


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    """Nothing of this machine is found: neither its Hugging Face cache nor what the program ships."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("EXGS_WEIGHTS", raising=False)
    monkeypatch.setattr(networks, "resource", lambda *parts: tmp_path / "shipped")


@pytest.fixture(scope="module")
def parts() -> tuple[UNet2DConditionModel, AutoencoderTiny]:
    """A UNet laid out like sd-turbo's, but small, and a full-size TAESD, both random."""
    torch.manual_seed(1)
    return UNet2DConditionModel(in_channels=4, **TINY_TURBO.unet).eval(), AutoencoderTiny().eval()


def save_unet(unet: UNet2DConditionModel, folder: Path, half: bool = False) -> None:
    """As diffusers writes it, float32 or the float16 variant alone."""
    unet.save_pretrained(folder)
    if half:
        tensors = {name: value.half() for name, value in load_file(folder / f"{MODEL}.safetensors").items()}
        (folder / f"{MODEL}.safetensors").unlink()
        save_file(tensors, folder / f"{MODEL}.fp16.safetensors")


def save_original_taesd(vae: AutoencoderTiny, folder: Path) -> None:
    """As TAESD's author publishes it: two files, bfloat16, the decoder's numbers one higher."""
    folder.mkdir(parents=True)
    for part, shift in (("encoder", 0), ("decoder", 1)):
        tensors = {}
        for name, value in getattr(vae, part).layers.state_dict().items():
            number, _, rest = name.partition(".")
            tensors[f"{int(number) + shift}.{rest}"] = value.bfloat16()
        save_file(tensors, folder / f"taesd_{part}.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True])
def test_a_folder_of_both_precisions_is_read(tmp_path, monkeypatch, parts, half):
    monkeypatch.setenv("EXGS_WEIGHTS", str(tmp_path))
    unet, vae = parts
    save_unet(unet, tmp_path / "sd-turbo" / "unet", half)
    vae.save_pretrained(tmp_path / "sd-turbo" / "taesd")
    network = load_base(*find_base())
    assert network.config.unet["cross_attention_dim"] == 16
    seen = frames()
    latent, _ = network.encode(seen)
    assert_close(latent, vae.encode(seen.color * 2 - 1).latents)
    eps = unet(latent, 199, torch.zeros(1, 77, 16)).sample
    expected = (latent - 0.4947339 * eps) / 0.8690445
    assert_close(network.denoise(latent, seen), expected, rtol=1e-2, atol=2e-3 if half else 1e-5)


@torch.no_grad()
def test_the_author_s_own_files_of_taesd_are_read(tmp_path, parts):
    save_original_taesd(parts[1], tmp_path / "taesd")
    save_unet(parts[0], tmp_path / "unet")
    network = load_base(tmp_path / "unet", tmp_path / "taesd")
    rounded = AutoencoderTiny().eval()
    rounded.load_state_dict({name: value.bfloat16().float() for name, value in parts[1].state_dict().items()})
    latent = torch.randn(1, 4, 8, 8)
    assert_close(network.decode(latent), rounded.decode(latent).sample / 2 + 0.5)


def test_the_cache_of_hugging_face_s_tools_is_searched(tmp_path, parts):
    hub = tmp_path / "hub"
    save_unet(parts[0], hub / "models--stabilityai--sd-turbo" / "snapshots" / "b2" / "unet", half=True)
    parts[1].save_pretrained(hub / "models--madebyollin--taesd" / "snapshots" / "61")
    unet, taesd = find_base()
    assert (unet.name, unet.parent.name, taesd.name) == ("unet", "b2", "61")


def test_the_large_autoencoder_in_sd_turbo_s_own_folder_is_not_taken_for_taesd(tmp_path, monkeypatch, parts):
    monkeypatch.setenv("EXGS_WEIGHTS", str(tmp_path))
    save_unet(parts[0], tmp_path / "sd-turbo" / "unet")
    (tmp_path / "sd-turbo" / "vae").mkdir()
    (tmp_path / "sd-turbo" / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(WeightsError, match="needs madebyollin/taesd:"):
        find_base()


def test_base_weights_are_labelled_and_a_painter_is_preferred(tmp_path, monkeypatch, parts):
    monkeypatch.setenv("EXGS_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="needs stabilityai/sd-turbo and madebyollin/taesd"):
        open_restorer("sd-turbo")
    save_unet(parts[0], tmp_path / "sd-turbo" / "unet")
    parts[1].save_pretrained(tmp_path / "sd-turbo" / "taesd")
    base = open_restorer("sd-turbo")
    assert base.name == "sd-turbo" and "not fine-tuned" in base.label
    image, alpha = torn(40, 70)
    restored = base.restore(drawn(image, alpha), FULL, retention=KEPT)
    assert restored.shape == image.shape and restored.isfinite().all() and not torch.equal(restored, image)
    write_painter(tmp_path / "sd-turbo", painter(replace(TINY_TURBO)), {})
    assert "not fine-tuned" not in open_restorer("sd-turbo").label


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda unet: (unet / f"{MODEL}.safetensors").unlink(), r"safetensors is missing"),
        (lambda unet: (unet / f"{MODEL}.safetensors").rename(unet / f"{MODEL}.bin"), "a pickle can run code"),
        (lambda unet: (unet / f"{MODEL}.safetensors").write_bytes(b"oops"), "damaged or cut short"),
        (lambda unet: (unet / "config.json").write_text("no"), "configuration"),
        (lambda unet: _described(unet, in_channels=9), "takes 9 channels"),
        (lambda unet: _described(unet, cross_attention_dim=24), r"instead of .* another network"),
    ],
)
def test_every_fault_of_the_base_weights_is_told(tmp_path, parts, harm, said):
    save_unet(parts[0], tmp_path / "unet")
    parts[1].save_pretrained(tmp_path / "taesd")
    harm(tmp_path / "unet")
    with pytest.raises(WeightsError, match=said):
        load_base(tmp_path / "unet", tmp_path / "taesd")


def _described(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.shared
@torch.no_grad()
def test_the_real_taesd_gives_a_photo_back(scenes):
    tensors = sd_turbo._taesd(scenes.parent / "weights" / "taesd")
    network = painter(TINY_TURBO)
    networks.fill(network.vae, tensors, scenes)
    photo = images.read_picture(scenes.parent / "photos" / "kodak" / "05.png").movedim(2, 0)[None, :, :256, :256]
    seen = replace(frames(1, 256, 256), color=photo)
    latent, skips = network.encode(seen)
    picture = network.decode(latent)
    assert -10 * torch.log10((picture - photo).square().mean()) > 20
    assert 0.5 < latent.std() < 1.5  # in the UNet's space as it is, without a scaling factor
    assert (network.decode(latent, skips) - picture).abs().mean() < 0.002  # untrained skips carry next to nothing
