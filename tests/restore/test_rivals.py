"""Rivals on folders laid out as their authors publish them, with small random weights; every fault in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from exgs_viewer import networks
from exgs_viewer.errors import WeightsError
from exgs_viewer.restore import RIVALS, diffusion, open_restorer, weights
from exgs_viewer.restore.difix import LORA_ALPHA, PROMPT, load_autoencoder
from exgs_viewer.settings import RestoreSettings
from tests.conftest import drawn
from tests.restore.test_painting import torn

MODEL = "diffusion_pytorch_model.safetensors"
WIDTH, TOKENS = 16, 12
FULL = RestoreSettings()
HUB = {"sd2-inpaint": "stabilityai/stable-diffusion-2-inpainting", "prefpaint": "kd5678/prefpaint-v1.0"}


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    """In float32 on one thread, since networks this small are done before a second one wakes."""
    monkeypatch.setattr(weights, "has_bfloat16", lambda device: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def nothing_found(tmp_path, monkeypatch):
    """Nothing of this machine is found."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("EXGS_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(networks, "resource", lambda *parts: tmp_path / "shipped")


def write_words(folder: Path) -> None:
    """A tokenizer that knows letters, and a text encoder of one layer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "tokenizer").mkdir(parents=True)
    files = {
        "vocab.json": json.dumps({word: number for number, word in enumerate(words)}),
        "merges.txt": "#version: 0.2\n",
        "tokenizer_config.json": json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS}),
    }
    for name, text in files.items():
        (folder / "tokenizer" / name).write_text(text)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=TOKENS, **sizes, **ends)
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def unet(channels: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=channels, out_channels=4, block_out_channels=(8, 8), sample_size=64, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, cross_attention_dim=WIDTH, attention_head_dim=2,
    )  # fmt: skip


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory) -> Path:
    """As `stabilityai/stable-diffusion-2-inpainting` is laid out."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("inpainting")
    write_words(folder)
    unet(9).save_pretrained(folder / "unet")
    autoencoder().save_pretrained(folder / "vae")
    DDIMScheduler(clip_sample=False, steps_offset=1).save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    index = {"_class_name": "StableDiffusionInpaintPipeline", "_diffusers_version": "0.30.0", **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def difix(tmp_path_factory) -> Path:
    """As `nvidia/difix` is laid out: skips, and peft's names for what is of low rank."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("difix")
    write_words(folder)
    unet(4).save_pretrained(folder / "unet")
    DDPMScheduler().save_pretrained(folder / "scheduler")
    vae = autoencoder()
    vae.save_pretrained(folder / "vae")
    config = json.loads((folder / "vae" / "config.json").read_text())
    extra = {"gamma": 1, "ignore_skip": False, "lora_rank": 4, "_class_name": "AutoencoderKL_Difix"}
    (folder / "vae" / "config.json").write_text(json.dumps({**config, **extra}))
    tensors, stored = load_file(folder / "vae" / MODEL), {}
    for number, (into, out) in enumerate([(8, 8), (8, 8), (4, 8), (4, 8)]):
        tensors[f"decoder.skip_conv_{number + 1}.weight"] = 0.1 * torch.randn(out, into, 1, 1)
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        if not name.startswith("decoder.") or "norm" in name:
            stored[name] = value
            continue
        stored[f"{layer}.base_layer.{kind}"] = value
        if kind == "weight":
            stored[f"{layer}.lora_A.vae_skip.weight"] = 0.1 * torch.randn(4, *value.shape[1:])
            stored[f"{layer}.lora_B.vae_skip.weight"] = 0.1 * torch.randn(len(value), 4, *([1] * (value.dim() - 2)))
    save_file(stored, folder / "vae" / MODEL)
    return folder


@pytest.mark.parametrize("name", ["sd2-inpaint", "prefpaint"])
def test_an_inpainting_model_paints_what_is_not_covered_and_nothing_else(name, inpainting, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "STEPS", 2)
    place = tmp_path / "hub" / f"models--{HUB[name].replace('/', '--')}" / "snapshots" / "0123"
    shutil.copytree(inpainting, place)
    restorer = open_restorer(name)
    assert restorer.name == name and restorer.label
    image, alpha = torn(50, 70)
    restored = restorer.restore(drawn(image, alpha), FULL)
    assert restored.shape == image.shape and restored.min() >= 0 and restored.max() <= 1
    assert torch.equal(restored[alpha == 1], image[alpha == 1])
    assert (restored[alpha == 0] - image[alpha == 0]).abs().max() > 0.05
    assert torch.equal(restorer.restore(drawn(image, alpha), FULL), restored), "the same noise every time"
    assert torch.equal(restorer.restore(drawn(image, torch.ones_like(alpha)), FULL), image)
    assert restorer.restore(drawn(image, alpha), FULL, stale=lambda: True) is None


def test_difix_is_what_its_parts_make_of_a_picture(difix, tmp_path):
    """Against diffusers' own encoder and scheduler, and a decoder whose skips are silenced."""
    shutil.copytree(difix, tmp_path / "difix")
    tensors = load_file(tmp_path / "difix" / "vae" / MODEL)
    silent = {name: value * (".skip_conv_" not in name) for name, value in tensors.items()}
    save_file(silent, tmp_path / "difix" / "vae" / MODEL)
    restorer = open_restorer("difix")
    image, alpha = torn(64, 128)
    restored = restorer.restore(drawn(image, alpha), FULL)
    with torch.no_grad():
        picture = 2 * image.movedim(2, 0)[None] - 1
        latent = restorer.vae.encode(picture).latent_dist.mode() * restorer.vae.config.scaling_factor
        eps = restorer.unet(latent, 199, encoder_hidden_states=restorer.prompt).sample
        schedule = DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )  # fmt: skip
        schedule.set_timesteps(timesteps=[199])
        clean = schedule.step(eps, 199, latent).prev_sample
        expected = restorer.vae.decode(clean / restorer.vae.config.scaling_factor).sample
    assert_close(restored, (expected[0].movedim(0, 2) / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=0)


def test_the_skips_carry_and_the_changes_of_low_rank_count(difix, tmp_path):
    shutil.copytree(difix, tmp_path / "difix")
    file = tmp_path / "difix" / "vae" / MODEL
    image, alpha = torn(64, 64)
    whole, tensors = open_restorer("difix").restore(drawn(image, alpha), FULL), load_file(file)
    for part in (".skip_conv_", ".lora_B."):
        save_file({name: value * (part not in name) for name, value in tensors.items()}, file)
        assert not torch.allclose(open_restorer("difix").restore(drawn(image, alpha), FULL), whole, atol=1e-4)
    vae, _ = load_autoencoder(difix / "vae")
    layer = "decoder.conv_in"
    down, up = (tensors[f"{layer}.lora_{which}.vae_skip.weight"] for which in "AB")
    change = torch.einsum("or,rikl->oikl", up.flatten(1), down) * LORA_ALPHA / 4
    assert_close(vae.decoder.conv_in.weight, tensors[f"{layer}.base_layer.weight"] + change)


@pytest.mark.parametrize("size", [(1, 1), (70, 50)])
def test_difix_takes_any_size_and_stops_when_stale(difix, tmp_path, size):
    shutil.copytree(difix, tmp_path / "difix")
    restorer = open_restorer("difix")
    assert restorer.prompt.shape == (1, TOKENS, WIDTH) and PROMPT
    image, alpha = torn(*size)
    assert restorer.restore(drawn(image, alpha), FULL).shape == image.shape
    assert torch.equal(restorer.restore(drawn(image, alpha), RestoreSettings(strength=0.0)), image)
    assert restorer.restore(drawn(image, alpha), FULL, stale=lambda: True) is None


@pytest.mark.parametrize("name", RIVALS)
def test_without_weights_it_says_what_is_needed_and_where(name, tmp_path):
    with pytest.raises(WeightsError, match=rf"'{name}' needs .* not fetched unasked.*{tmp_path / name}"):
        open_restorer(name)


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("difix", lambda folder: (folder / "vae" / "config.json").unlink(), "vae/config.json is missing"),
        ("difix", lambda folder: (folder / "vae" / MODEL).write_bytes(b"oops"), "damaged or cut short"),
        ("difix", lambda folder: (folder / "unet" / MODEL).rename(folder / "unet" / "x.bin"), "a pickle can run code"),
        ("difix", lambda folder: (folder / "unet" / "config.json").write_text("[]"), "configuration"),
        ("difix", lambda folder: shutil.copy(folder / "unet" / MODEL, folder / "vae" / MODEL), "another network"),
        ("difix", lambda folder: (folder / "tokenizer" / "merges.txt").write_text("x"), "cannot be read"),
        ("difix", lambda folder: autoencoder().save_pretrained(folder / "vae"), "this one has none"),
        ("prefpaint", lambda folder: (folder / "vae" / MODEL).unlink(), "cannot be loaded"),
        ("prefpaint", lambda folder: (folder / "unet" / MODEL).write_bytes(b"oops"), "cannot be loaded"),
        ("prefpaint", lambda folder: unet(4).save_pretrained(folder / "unet"), "takes 4 channels"),
        ("prefpaint", lambda folder: (folder / "model_index.json").unlink(), "model_index.json is missing"),
    ],
)
def test_every_fault_is_told_in_words(name, harm, said, difix, inpainting, tmp_path):
    shutil.copytree(difix if name == "difix" else inpainting, tmp_path / name)
    harm(tmp_path / name)
    with pytest.raises(WeightsError, match=said):
        open_restorer(name)


def test_without_transformers_it_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(WeightsError, match="pip install transformers"):
        diffusion.quiet_transformers("difix")
