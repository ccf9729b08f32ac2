"""Training: scenes made by code -> pairs of pictures -> a painter; pruned scenes -> an amplifier.

scenes.py (of matter.py, textures.py)  a number -> a scene of dense Gaussians with real texture
pairs.py                               scene -> (compressed render, uncut render) on the disk, of every VARIANT
data.py                                pairs on the disk -> batches of crops
losses.py                              how far a painted picture is from the uncut one
painter.py (with state.py)             the loop: stages, checkpoints, curves, sample sheets
lessons.py                             scene -> what pruning keeps of it, and pictures of all of it, on the disk
amplifier.py                           lessons -> an amplifier, through the renderer's gradients
validate.py                            PSNR and SSIM on views that were held out
"""
