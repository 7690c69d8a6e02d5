"""Words of sentences for people."""


def counted(number: int, thing: str) -> str:
    """Return a number and the name of what it counts, as ``1 epoch`` or ``2,000 epochs``."""
    return f"{number:,} {thing if number == 1 else f'{thing}s'}"
