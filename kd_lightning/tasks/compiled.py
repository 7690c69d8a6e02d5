"""Networks that torch.compile has compiled to larger kernels."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from kd_lightning.errors import UserError
from kd_lightning.networks import Network


class CompiledNetworks:
    """Networks that run compiled inside a block; saving, copying and exporting them outside of it is unaffected.

    They are compiled once, for the size of the first batch; smaller ones, such as an epoch's last, run uncompiled.
    """

    def __init__(self) -> None:
        self._methods: list[tuple[Network, Callable[..., Any]]] = []
        self._size = 0

    @contextmanager
    def used(self, networks: Iterable[Network], size: int) -> Iterator[None]:
        """Run one batch in the block, compiled where it has the size that the networks are compiled for.

        Args:
            networks: The networks, the same in every call.
            size: Images in the batch.

        Raises:
            UserError: torch.compile fails here.
        """
        is_first = not self._methods
        if is_first:
            torch.compiler.reset()  # drops those of earlier runs in this process: it compiles no more than eight
            self._methods = [(network, torch.compile(network.forward, dynamic=False)) for network in networks]
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
