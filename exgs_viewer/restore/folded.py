"""What never changes while a trained painter works, put into its weights once.

The timestep is fixed, so its embedding is a constant that each residual block adds after its first convolution: that
convolution's bias can hold it. The prompt is fixed, so the keys and values that cross-attention makes of it are
constants, too; only what the mask adds to the context still has to go through those layers, and that is a linear map
of one number a token, or of one vector for all of them.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from exgs_viewer.restore.painter import MaskEmbedding, Painter


@torch.no_grad()
def fold(painter: Painter) -> Painter:
    """The painter itself, which paints the same and can no longer be trained or written. Float32, please."""
    if not painter.folded and _foldable(painter):
        _fold_timestep(painter)
        _fold_prompt(painter)
        painter.folded = True
    return painter


def _foldable(painter: Painter) -> bool:
    """Whether the UNet is built as Stable Diffusion's are; one that somebody brings may use more of diffusers."""
    unet = painter.unet
    plain = unet.class_embedding is None and unet.config.addition_embed_type is None and unet.encoder_hid_proj is None
    blocks = [block for block in unet.modules() if isinstance(block, ResnetBlock2D)]
    attentions = [attention for attention in unet.modules() if _reads_context(attention)]
    return (
        plain
        and all(block.time_embedding_norm == "default" for block in blocks)
        and not any(attention.norm_cross or attention.added_kv_proj_dim for attention in attentions)
    )


def _fold_timestep(painter: Painter) -> None:
    unet, like = painter.unet, painter.prompt_embeds
    time = torch.full((1,), painter.config.timestep, device=like.device)
    embedded = unet.time_embedding(unet.get_time_embed(sample=like, timestep=time))
    if unet.time_embed_act is not None:
        embedded = unet.time_embed_act(embedded)
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D) and block.time_emb_proj is not None:
            active = embedded if block.skip_time_act else block.nonlinearity(embedded)
            block.conv1.bias.add_(block.time_emb_proj(active)[0])
            block.time_emb_proj = None
    unet.time_embedding, unet.time_embed_act = _Nothing(), None


def _fold_prompt(painter: Painter) -> None:
    for attention in painter.unet.modules():
        if _reads_context(attention):
            attention.to_k = _Folded(attention.to_k, painter.prompt_embeds, painter.mask)
            attention.to_v = _Folded(attention.to_v, painter.prompt_embeds, painter.mask)


def _reads_context(module: nn.Module) -> bool:
    return isinstance(module, Attention) and module.is_cross_attention


class _Nothing(nn.Module):
    """In place of the embedding of the timestep: diffusers' blocks add none where there is none."""

    def forward(self, *_: object) -> None:
        return None


class _Folded(nn.Module):
    """A projection of the context, of which only the mask's features are still told."""

    def __init__(self, projection: nn.Linear, prompt: Tensor, mask: MaskEmbedding) -> None:
        super().__init__()
        constant = projection(prompt)  # [1, tokens, width]
        weight = constant.new_zeros(constant.shape[2], 1)
        if mask.mode != "none":
            weight = projection.weight @ mask.out.weight
            constant = constant + projection.weight @ mask.out.bias
        self.register_buffer("constant", constant)
        self.register_buffer("weight", weight)

    def forward(self, features: Tensor) -> Tensor:
        """[B, 1 or tokens, F] -> [B, tokens, width]."""
        return self.constant + nn.functional.linear(features, self.weight)
