"""Difix as Restorer (Wu et al. 2025, Difix3D+): SD-Turbo in one step, its autoencoder with skips and low-rank changes.

Read from the files of `nvidia/difix`; none of the code there is run. Its autoencoder is Stable Diffusion's with four
1 x 1 convolutions more, which carry what the encoder saw before each of its blocks to the decoder's blocks. Changes of
low rank lie beside the weights under peft's names (`base_layer`, `lora_A.vae_skip`, `lora_B.vae_skip`) and are merged.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exgs_viewer import networks
from exgs_viewer.errors import WeightsError
from exgs_viewer.render import RenderOutput
from exgs_viewer.restore import Stale, hub, never, weights
from exgs_viewer.restore.diffusion import quiet_transformers
from exgs_viewer.restore.painter import TIMESTEP, UNet2DConditionModel, schedule
from exgs_viewer.settings import RestoreSettings

NAME = "difix"
REPOSITORIES = ("nvidia/difix",)
NEEDED = ("unet/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/vocab.json")
PROMPT = "remove degradation"
"""What it was trained with."""
STRIDE = 64
"""Pixels: a latent cell times what the UNet halves on its way down."""
LORA_ALPHA = 8
"""peft's default, which the training code leaves as it is; divided by the rank it scales the change."""
ADAPTER = "vae_skip"


@dataclass(frozen=True, eq=False)
class DifixRestorer:
    """Restorer with Difix; the prompt is read once."""

    unet: nn.Module
    vae: nn.Module
    skips: nn.ModuleList
    prompt: Tensor
    """[1, 77, 1024]."""
    name: str = NAME
    label: str = "Difix"

    @torch.no_grad()
    def restore(
        self, output: RenderOutput, settings: RestoreSettings, stale: Stale = never, retention: float | None = None
    ) -> Tensor | None:
        """See Restorer. It looks at the colours alone."""
        image = output.color
        height, width = image.shape[:2]
        like = next(self.unet.parameters())
        padded = F.pad(
            image.movedim(2, 0)[None], (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate"
        ).to(like.device, like.dtype)  # fmt: skip
        painted = self._painted(2 * padded - 1, stale)
        if painted is None:
            return None
        painted = (painted[0, :, :height, :width].movedim(0, 2).to(image) / 2 + 0.5).clamp(0, 1)
        return torch.lerp(image, painted, settings.strength)

    def _painted(self, picture: Tensor, stale: Stale) -> Tensor | None:
        """[1, 3, H, W] in [-1, 1] -> the same, asking between the parts whether it is still wanted.

        Where Difix draws a latent from the encoder's distribution its mean is taken: the same picture every time.
        """
        latent, carried = self._encoded(picture)
        if stale():
            return None
        eps = self.unet(latent, TIMESTEP, encoder_hidden_states=self.prompt, return_dict=False)[0]
        if stale():
            return None
        signal, noise = schedule(TIMESTEP)
        return self._decoded((latent - noise * eps) / signal, carried)

    def _encoded(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The latent, and what goes into each block on the way to it."""
        encoder, carried = self.vae.encoder, []
        hidden = encoder.conv_in(picture)
        for block in encoder.down_blocks:
            carried.append(hidden)
            hidden = block(hidden)
        hidden = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(hidden))))
        mean = self.vae.quant_conv(hidden).chunk(2, 1)[0]
        return mean * self.vae.config.scaling_factor, carried

    def _decoded(self, latent: Tensor, carried: list[Tensor]) -> Tensor:
        decoder = self.vae.decoder
        hidden = decoder.conv_in(self.vae.post_quant_conv(latent / self.vae.config.scaling_factor))
        hidden = decoder.mid_block(hidden)
        for block, skip, seen in zip(decoder.up_blocks, self.skips, reversed(carried), strict=True):
            hidden = block(hidden + skip(seen))
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(hidden)))


def open() -> DifixRestorer:
    """Difix from networks.folders("difix") or Hugging Face's cache. Raises WeightsError in words."""
    folder = hub.find(NAME, networks.folders(NAME), REPOSITORIES, NEEDED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = torch.bfloat16 if weights.has_bfloat16(device) else torch.float32
    vae, skips = load_autoencoder(folder / "vae")
    parts = [load_unet(folder / "unet"), vae, skips]
    unet, vae, skips = (part.to(device, precision).eval().requires_grad_(False) for part in parts)
    return DifixRestorer(unet, vae, skips, read_prompt(folder).to(device, precision))


def load_unet(folder: Path) -> UNet2DConditionModel:
    """SD-Turbo's UNet, trained anew. Raises WeightsError."""
    unet = _built(UNet2DConditionModel, folder)
    file = weights.model_file(folder)
    networks.fill(unet, networks.read_tensors(file), file)
    return unet


def load_autoencoder(folder: Path) -> tuple[nn.Module, nn.ModuleList]:
    """The autoencoder and its four skips, everything of low rank merged. Raises WeightsError."""
    from diffusers import AutoencoderKL

    vae, file = _built(AutoencoderKL, folder), weights.model_file(folder)
    stored = merged(networks.read_tensors(file), file)
    carried = {name: stored.pop(name) for name in list(stored) if ".skip_conv_" in name}
    networks.fill(vae, stored, file)
    names = [f"decoder.skip_conv_{number + 1}.weight" for number in range(len(vae.decoder.up_blocks))]
    if sorted(carried) != names:
        found = ", ".join(sorted(carried)) or "none"
        raise WeightsError(f"{file}: Difix' autoencoder has the skips {', '.join(names)}, this one has {found}.")
    skips = nn.ModuleList()
    for name in names:
        out, into = carried[name].shape[:2]
        skips.append(nn.Conv2d(into, out, 1, bias=False))
        skips[-1].weight = nn.Parameter(carried[name])
    return vae, skips


def merged(stored: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Tensors under their plain names, W + alpha / rank * B A where there is such a change. Raises WeightsError."""
    plain = {name.replace(".base_layer.", "."): value for name, value in stored.items() if ".lora_" not in name}
    for name, down in stored.items():
        layer, _, rest = name.partition(f".lora_A.{ADAPTER}.")
        if not rest:
            continue
        up, target = stored.get(f"{layer}.lora_B.{ADAPTER}.weight"), f"{layer}.weight"
        if up is None or target not in plain:
            raise WeightsError(f"{file}: the low-rank change {name} belongs to nothing in this file.")
        change = (up.flatten(1) @ down.flatten(1)).view_as(plain[target])
        plain[target] = plain[target] + LORA_ALPHA / len(down) * change
    return plain


def read_prompt(folder: Path) -> Tensor:
    """[1, tokens, width]: PROMPT as the text encoder understands it. Raises WeightsError."""
    quiet_transformers(NAME)
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True, use_safetensors=True)
        length = encoder.config.max_position_embeddings
        words = tokenizer(PROMPT, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return encoder(words.input_ids)[0]
    except Exception as error:  # tokenizers raises Exception itself.
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{folder}: tokenizer or text_encoder cannot be read ({reason}); get both again.") from error


def _built(kind: type[nn.Module], folder: Path) -> nn.Module:
    """A model as its config.json describes it, without weights yet. Raises WeightsError."""
    described = weights.read_json(folder / "config.json")
    known = set(inspect.signature(kind.__init__).parameters) - {"self"}
    try:
        with torch.device("meta"):
            return kind(**{name: value for name, value in described.items() if name in known})
    except (TypeError, ValueError, KeyError) as error:
        raise WeightsError(f"{folder / 'config.json'}: describes no such model ({error}).") from error
