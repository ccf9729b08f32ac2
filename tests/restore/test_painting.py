"""A painter as restorer: any size, tile by tile, dropped when stale, and nothing changed where nothing was cut."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from exgs_viewer import networks
from exgs_viewer.errors import WeightsError
from exgs_viewer.restore import RESTORERS, open_restorer
from exgs_viewer.restore.inpaint import InpaintRestorer
from exgs_viewer.restore.painter import FILL_AT_FIRST, cored
from exgs_viewer.restore.painting import OVERLAP, TILES, PainterRestorer, fade, tiles
from exgs_viewer.restore.painting import frames as as_frames
from exgs_viewer.restore.weights import CONFIG, WEIGHTS, load_painter, write_painter
from exgs_viewer.settings import RestoreSettings
from tests.conftest import drawn
from tests.restore.test_painter import SMALL, frames, painter, stirred

FULL = RestoreSettings(restorer="lite")
TILE = TILES[0]
KEPT = 0.1


@pytest.fixture(scope="module")
def lite() -> PainterRestorer:
    """A small painter that changes pictures somehow."""
    return PainterRestorer(stirred(painter(SMALL)).requires_grad_(False), "lite", "Restored (test)")


def torn(height: int, width: int, seed: int = 0):
    """[H, W, 3] and [H, W]. A picture over black with holes."""
    random = torch.Generator().manual_seed(seed)
    alpha = (torch.rand(height, width, generator=random) > 0.2).float()
    return torch.rand(height, width, 3, generator=random) * alpha[..., None], alpha


def at_first(image, alpha, background=(0.0, 0.0, 0.0)):
    """What an untrained painter makes of it: nothing but its share of the push-pull fill."""
    fill = InpaintRestorer().restore(drawn(image, alpha, background), FULL)
    return image + cored(torch.tensor(FILL_AT_FIRST).sigmoid() * (fill - image))


@pytest.mark.parametrize("background", [(0.0, 0.0, 0.0), (0.9, 0.5, 0.1)])
def test_an_untrained_painter_is_its_share_of_the_push_pull_fill(background):
    image, alpha = torn(90, 130)
    image = image + (1 - alpha[..., None]) * torch.tensor(background)
    restored = PainterRestorer(painter(SMALL), "lite", "").restore(
        drawn(image, alpha, background), FULL, retention=KEPT
    )
    assert_close(restored, at_first(image, alpha, background), rtol=0, atol=1e-6)


def test_a_picture_of_everything_comes_back_bit_by_bit(lite):
    image, alpha = torn(64, 64)
    assert torch.equal(lite.restore(drawn(image, alpha), FULL, retention=1.0), image)
    assert not torch.equal(lite.restore(drawn(image, alpha), FULL, retention=0.99), image)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (64, 96), (65, 31)])
def test_any_size_gives_a_picture_and_leaves_the_inputs_alone(lite, size):
    image, alpha = torn(*size)
    before = image.clone(), alpha.clone()
    restored = lite.restore(drawn(image, alpha), FULL, retention=KEPT)
    assert restored.shape == image.shape and restored.min() >= 0 and restored.max() <= 1
    assert torch.equal(restored, lite.restore(drawn(image, alpha), FULL, retention=KEPT))
    assert torch.equal(image, before[0]) and torch.equal(alpha, before[1])


def test_a_wider_window_does_not_shift_the_lattice(monkeypatch):
    """Far from what was added, the same pixels are painted the same way: convolutions see no size."""
    image, alpha = torn(64, 256)
    network = painter(replace(SMALL, mask_mode="none"))
    torch.nn.init.normal_(network.vae.decoder.layers[-1].weight, std=0.01)
    monkeypatch.setattr(network, "denoise", lambda latent, frames: latent)  # GroupNorm and attention see everything
    restorer = PainterRestorer(network, "lite", "")
    whole = restorer._decoded([as_frames(drawn(image, alpha), image, KEPT)], lambda: False)
    image, alpha = image[:, :192], alpha[:, :192]
    part = restorer._decoded([as_frames(drawn(image, alpha), image, KEPT)], lambda: False)
    assert_close(whole[..., :96], part[..., :96], rtol=0, atol=1e-5)
    assert whole[:3, :, :96].abs().max() > 1e-3


def test_strength_blends_between_the_picture_and_its_restoration(lite):
    image, alpha = torn(64, 96)
    none, half, full = (
        lite.restore(drawn(image, alpha), replace(FULL, strength=share), retention=KEPT) for share in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none, image)
    inside = (full > 0) & (full < 1)  # elsewhere it was clamped
    assert_close(half[inside], ((image + full) / 2)[inside], rtol=0, atol=1e-6)


def test_depth_and_retention_reach_the_painter(lite):
    image, alpha = torn(64, 96)
    output = drawn(image, alpha)
    plain = lite.restore(output, FULL, retention=KEPT)
    assert not torch.equal(plain, lite.restore(output, FULL, retention=0.02))
    deep = replace(output, depth=torch.linspace(1, 9, 96).expand(64, 96))
    assert not torch.equal(plain, lite.restore(deep, FULL, retention=KEPT))


def test_the_background_is_none_of_the_painter_s_business(lite):
    """It says the same over any of them: what to add, and how much of the fill to take."""
    whole, alpha = torn(64, 96)
    blue = (0.1, 0.2, 0.6)
    over_blue = whole + (1 - alpha[..., None]) * torch.tensor(blue)
    fill = InpaintRestorer()
    black, filled = lite.restore(drawn(whole, alpha), FULL, retention=KEPT), fill.restore(drawn(whole, alpha), FULL)
    decoded = lite._decoded([as_frames(drawn(whole, alpha), filled, KEPT)], lambda: False).movedim(0, 2)
    share, added = decoded[..., 3:].sigmoid(), decoded[..., :3]
    assert share.std() > 1e-3 and added.std() > 1e-3
    expected = whole + cored(share * (filled - whole) + added)
    assert_close(black, expected.clamp(0, 1), rtol=0, atol=1e-5)
    colored = lite.restore(drawn(over_blue, alpha, blue), FULL, retention=KEPT)
    blue_filled = fill.restore(drawn(over_blue, alpha, blue), FULL)
    expected = over_blue + cored(share * (blue_filled - over_blue) + added)
    assert_close(colored, expected.clamp(0, 1), rtol=0, atol=1e-4)


def test_a_stale_request_ends_between_any_two_parts(lite):
    image, alpha = torn(64, 96)
    asked = []
    assert lite.restore(drawn(image, alpha), FULL, lambda: bool(asked.append(1)), retention=KEPT) is not None
    questions = len(asked)
    for patience in (0, questions - 3, questions - 2, questions - 1):
        asked.clear()
        assert lite.restore(drawn(image, alpha), FULL, lambda p=patience: asked.append(1) or len(asked) > p) is None
        assert len(asked) == patience + 1


def test_the_mean_of_the_same_picture_is_what_one_gives(lite):
    image, alpha = torn(70, 100)
    output = drawn(image, alpha, (0.1, 0.2, 0.3))
    alone = lite.restore(output, FULL, retention=KEPT)
    assert_close(lite.averaged([output] * 3, FULL, retention=KEPT), alone, rtol=0, atol=1e-5)
    assert torch.equal(lite.averaged([output] * 3, FULL, retention=1.0), output.color)


def test_the_mean_over_moved_pictures_hangs_less_on_how_one_of_them_lies(lite):
    """What noise in the pictures does to the latent averages out; the decoder still leans on the first one's skips."""
    latents = []
    decode = lite.painter.decode
    clean, alpha = torn(64, 96)
    noise = 0.1 * torch.randn(9, *clean.shape, generator=torch.Generator().manual_seed(1))
    noisy = [drawn((clean + each).clamp(0, 1) * alpha[..., None], alpha) for each in noise]
    lite.painter.decode = lambda latent, skips: latents.append(latent) or decode(latent, skips)
    try:
        lite.restore(drawn(clean, alpha), FULL, retention=KEPT)
        lite.restore(noisy[0], FULL, retention=KEPT)
        lite.averaged(noisy, FULL, retention=KEPT)
    finally:
        del lite.painter.decode
    wanted, one, mean = latents
    assert float((mean - wanted).norm()) < 0.7 * float((one - wanted).norm())


def test_an_average_that_nobody_wants_any_more_is_left(lite):
    image, alpha = torn(64, 96)
    asked = []
    assert lite.averaged([drawn(image, alpha)] * 3, FULL, lambda: bool(asked.append(1)), KEPT) is not None
    for patience in (0, len(asked) // 2, len(asked) - 1):
        left = iter([False] * patience)
        assert lite.averaged([drawn(image, alpha)] * 3, FULL, lambda left=left: next(left, True), KEPT) is None


@pytest.mark.parametrize("size", [(1, 1), (768, 768), (769, 100), (1080, 1920), (2160, 3840)])
def test_tiles_cover_the_picture_and_fade_into_each_other(size):
    total, most = torch.zeros(size), 0
    for window in tiles(*size):
        share = fade(window, size)
        assert share.min() > 0 and max(share.shape) <= TILE
        total[window] += share
        most = max(most, share.numel())
        assert all(side.start % 32 == 0 for side in window)
    assert total.min() > 0.9 or min(size) > TILE
    assert total.min() > 0 and most <= TILE * TILE


def test_neighbouring_tiles_overlap_enough():
    for length in range(TILE + 1, 3 * TILE, 7):
        spans = [window[1] for window in tiles(10, length)]
        assert spans[0].start == 0 and spans[-1].stop == length
        assert all(b.start <= a.stop - OVERLAP + 32 for a, b in pairwise(spans))


def test_tiles_meet_without_a_seam():
    """An untrained painter takes the same share of the fill everywhere, and so must the blend of its tiles."""
    image, alpha = torn(40, TILE + 200)
    restored = PainterRestorer(painter(SMALL), "lite", "").restore(drawn(image, alpha), FULL, retention=KEPT)
    assert_close(restored, at_first(image, alpha), rtol=0, atol=1e-5)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_where_memory_runs_out_smaller_pieces_are_painted_with_a_word(monkeypatch, caplog, error):
    network, asked = painter(SMALL), []
    encode = network.encode

    def encode_little(part):
        asked.append(max(part.color.shape[2:]))
        if asked[-1] > 300:
            raise error
        return encode(part)

    monkeypatch.setattr(network, "encode", encode_little)
    restorer = PainterRestorer(network, "lite", "Base weights, not fine-tuned")
    image, alpha = torn(40, 600)
    restored = restorer.restore(drawn(image, alpha), FULL, retention=KEPT)
    assert_close(restored, at_first(image, alpha), rtol=0, atol=1e-5)
    assert restorer.label == "Base weights, not fine-tuned, in pieces of 256 pixels for want of memory"
    assert [record.getMessage() for record in caplog.records][-1].startswith("Memory ran out; 'lite' paints in pieces")
    before = len(asked)
    assert restorer.restore(drawn(image, alpha), FULL, retention=KEPT) is not None
    assert max(asked[before:]) == 256, "it tried the large pieces again"


def test_where_the_smallest_pieces_are_too_large_it_is_an_error(monkeypatch):
    def refuse(part):
        raise torch.OutOfMemoryError("CUDA out of memory")

    network = painter(SMALL)
    monkeypatch.setattr(network, "encode", refuse)
    image, alpha = torn(40, 60)
    with pytest.raises(torch.OutOfMemoryError):
        PainterRestorer(network, "lite", "").restore(drawn(image, alpha), FULL, retention=KEPT)


def test_weights_come_back_to_half_precision(tmp_path):
    network = stirred(painter(SMALL))
    write_painter(tmp_path, network, {"step": 3})
    again = load_painter(tmp_path)
    assert again.config == network.config and not again.training
    for name, value in network.state_dict().items():
        assert_close(again.state_dict()[name], value.half().float(), rtol=0, atol=0)
    assert_close(again(frames()).picture, network.half().float()(frames()).picture)


def test_low_rank_changes_are_merged_at_loading(tmp_path):
    network = stirred(painter(SMALL))
    write_painter(tmp_path, network, {"lora_scale": 2.0})
    stored = load_file(tmp_path / WEIGHTS)
    down, up = torch.randn(4, 32, 3, 3) * 0.1, torch.randn(32, 4, 1, 1) * 0.1
    lora = {"vae_lora.layers.2.conv.0.lora_A.weight": down, "vae_lora.layers.2.conv.0.lora_B.weight": up}
    save_file({**stored, **lora}, tmp_path / WEIGHTS)
    convolution = load_painter(tmp_path).vae.decoder.layers[2].conv[0]
    seen = torch.randn(1, 32, 8, 8)
    plain = network.vae.decoder.layers[2].conv[0]
    two_steps = torch.nn.functional.conv2d(torch.nn.functional.conv2d(seen, down, padding=1), up)
    assert_close(convolution(seen), plain(seen) + 2 * two_steps, rtol=0, atol=5e-3)
    save_file({**stored, "vae_lora.layers.99.lora_A.weight": down}, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match="belongs to nothing"):
        load_painter(tmp_path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / CONFIG).unlink(), "no such file"),
        (lambda folder: (folder / WEIGHTS).unlink(), "no such file"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "configuration"),
        (lambda folder: (folder / CONFIG).write_text('{"version": 2}'), "configuration"),
        (lambda folder: _told(folder, newer=1), "newer version, with newer"),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:999]), "damaged or cut short"),
        (lambda folder: _changed(folder, lambda t: t.pop("prompt_embeds")), "prompt_embeds is missing"),
        (lambda folder: _changed(folder, lambda t: t.update(prompt_embeds=torch.ones(2))), r"\(2,\) instead of"),
        (lambda folder: _changed(folder, lambda t: t.update(other=torch.ones(2))), "holds other"),
    ],
)
def test_every_fault_of_the_weights_is_told(tmp_path, harm, said):
    write_painter(tmp_path, painter(SMALL), {})
    harm(tmp_path)
    with pytest.raises(WeightsError, match=said):
        load_painter(tmp_path)


def _changed(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def _told(folder, **more):
    (folder / CONFIG).write_text(json.dumps({**json.loads((folder / CONFIG).read_text()), **more}))


def test_the_user_s_own_weights_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("EXGS_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(networks, "resource", lambda *parts: tmp_path / "shipped")
    with pytest.raises(WeightsError, match="no weights of the painter 'lite'"):
        open_restorer("lite")
    write_painter(tmp_path / "shipped" / "lite", painter(SMALL), {})
    assert networks.find("lite") == tmp_path / "shipped" / "lite"
    write_painter(tmp_path / "lite", painter(SMALL), {})
    assert networks.find("lite") == tmp_path / "lite"
    restorer = open_restorer("lite")
    assert (
        restorer.name == "lite"
        and "lite" in restorer.label
        and set(RESTORERS) == {"inpaint", "scene", "lite", "sd-turbo"}
    )
    image, alpha = torn(64, 64)
    assert_close(restorer.restore(drawn(image, alpha), FULL, retention=KEPT), at_first(image, alpha), rtol=0, atol=1e-6)
