"""argparse, with errors of one sentence."""

import argparse
from typing import NoReturn

from kd_lightning.errors import UserError


class PlainParser(argparse.ArgumentParser):
    """The parser of a command that takes no configs, and so starts without importing the config parser."""

    def error(self, message: str) -> NoReturn:
        """Raise an error for users.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; `{self.prog} --help` lists the options.")
