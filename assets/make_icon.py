"""Draw icon.png: splats that thin out from left to right, as compression does with a scene."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE, SCALE = 256, 4
COLOURS = np.array([[255, 176, 59], [255, 107, 107], [94, 196, 255], [126, 231, 135], [201, 160, 255]]) / 255


def main() -> None:
    side = SIZE * SCALE
    y, x = np.mgrid[0:side, 0:side] / side - 0.5  # [-0.5, 0.5]
    image = np.broadcast_to(np.array([0.09, 0.10, 0.13]), (side, side, 3)).copy()
    dice = np.random.default_rng(11)
    for number in range(90):
        across = dice.random()
        # The further to the right, the fewer splats remain, and the larger they are.
        if dice.random() < across**0.7 * 0.97:
            continue
        centre = (across - 0.5) * 0.84, dice.uniform(-0.4, 0.4)
        angle, long, ratio = dice.uniform(0, np.pi), dice.uniform(0.035, 0.06) * (1 + across), dice.uniform(0.35, 0.9)
        u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
        v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
        alpha = 0.92 * np.exp(-0.5 * ((u / long) ** 2 + (v / (long * ratio)) ** 2))[..., None]
        image = image * (1 - alpha) + COLOURS[number % len(COLOURS)] * alpha
    corner = np.hypot(np.maximum(np.abs(x) - 0.38, 0), np.maximum(np.abs(y) - 0.38, 0)) < 0.11  # rounded square
    pixels = np.dstack([image, corner]) * 255
    picture = Image.fromarray(pixels.round().astype(np.uint8), "RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    picture.save(Path(__file__).with_name("icon.png"), optimize=True)


if __name__ == "__main__":
    main()
