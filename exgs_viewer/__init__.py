"""exgs_viewer: open a 3D Gaussian Splatting scene, make it 100 times smaller while a slider moves, repair the picture.

The way of the data, which is also the tree of this package:

    scene file --scene--> GaussianCloud --compress/scores--> significance [N] --compress/select--> kept indices [M]
        --pipeline--> smaller cloud --scene/exgs--> bytes
    cloud + Camera --render--> RenderOutput --restore--> picture --app--> texture, screenshot
"""

from exgs_viewer.compiled import forget_stale

__version__ = "0.1.0"

forget_stale()
