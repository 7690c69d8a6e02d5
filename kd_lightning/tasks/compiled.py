"""Networks that torch.compile has compiled to larger kernels."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from kd_lightning.errors import UserError
from kd_lightning.networks import Network


class CompiledNetworks:
    """Networks that run compiled inside a block and uncompiled outside of it.

    They are compiled once, for the size of the first batch; smaller ones, such as an epoch's last, run uncompiled.

    Args:
        networks: The networks; saving, copying and exporting them outside of the block is unaffected.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        torch.compiler.reset()  # drops those of earlier runs in this process: it keeps eight, and does not compile more
        self._methods = [(network, torch.compile(network.forward, dynamic=False)) for network in networks]
        self._size: int | None = None

    @contextmanager
    def used(self, size: int) -> Iterator[None]:
        """Run one batch of this size in the block, compiled where it has the size that the networks are compiled for.

        Args:
            size: Images in the batch.

        Raises:
            UserError: torch.compile fails here.
        """
        is_first = self._size is None
        if self._size is None:
            self._size = size
        methods = self._methods if size == self._size else []
        try:
            for network, forward in methods:
                network.__dict__["forward"] = forward
            yield
        except RuntimeError as error:
            if not is_first:
                raise
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"--model.compiled is true, but torch.compile fails here: {reason}; set it to false."
            ) from error
        finally:
            for network, _ in methods:
                network.__dict__.pop("forward", None)
