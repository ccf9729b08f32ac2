"""One process alone, or several under `accelerate launch` or torchrun, on one machine or many, that train one painter.

Every process holds the whole painter, draws its own crops and averages its gradients with the others'. The first one
writes the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from exgs_viewer.errors import BackendError


class Team:
    """The processes of this training run."""

    def __init__(self) -> None:
        """Raises BackendError where several were started but the package accelerate is missing."""
        self._accelerator: Any = None
        self.rank, self.size = 0, 1
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ImportError as error:
                raise BackendError(
                    f"Training with several processes needs accelerate ({error}): pip install 'exgs-viewer[train]'."
                ) from error
            self._accelerator = Accelerator(cpu=not torch.cuda.is_available())
            self.rank, self.size = self._accelerator.process_index, self._accelerator.num_processes
            self.device = self._accelerator.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over all processes, in one exchange."""
        if self.size == 1:
            return
        gradients = [value.grad for value in parameters if value.grad is not None]
        mean = self._accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether any process says so: all end at the same step, or the others would wait for ever."""
        if self.size == 1:
            return flag
        said: Tensor = self._accelerator.reduce(torch.tensor([float(flag)], device=self.device), "sum")
        return bool(said.item() > 0)

    def part(self) -> None:
        """Leave in good order; a process that just ends would count as one that failed."""
        if self.size > 1:
            torch.distributed.destroy_process_group()
