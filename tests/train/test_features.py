"""The perceptual term: nothing for equal pictures, more for more blur, with a gradient, and every bad file told."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from exgs_viewer import images
from exgs_viewer.errors import WeightsError
from exgs_viewer.train.features import Features


def test_a_file_of_something_else_is_told(tmp_path):
    path = tmp_path / "x.pth"
    with pytest.raises(WeightsError, match="no features"):
        Features(path)
    torch.save({"features.0.weight": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="no features"):
        Features(path)


@pytest.mark.shared
def test_blur_is_seen_and_the_more_the_farther(scenes):
    root = scenes.parent
    features = Features(root / "weights" / "squeezenet1_1" / "squeezenet1_1_features_caffe_bgr.pth")
    photo = images.read_picture(root / "photos" / "kodak" / "05.png").movedim(2, 0)[None, :, :128, :128].contiguous()
    blurred = [avg_pool2d(photo, size, 1, size // 2, count_include_pad=False) for size in (3, 5, 9)]
    apart = [float(features(picture, photo)) for picture in (photo, *blurred)]
    assert apart[0] == 0 and apart == sorted(apart) and apart[-1] > 0.1
    wanted = blurred[1].requires_grad_()
    features(wanted, photo).backward()
    step = wanted.detach() - 0.01 * wanted.grad / wanted.grad.abs().max()
    assert features(step, photo) < apart[2]
    assert not any(value.requires_grad for value in features.buffers())
