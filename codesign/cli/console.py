"""How commands print: wide where nobody's terminal limits the width."""

from rich.console import Console

PIPED_WIDTH = 220


def console() -> Console:
    """A console on stdout; text piped elsewhere is not cut at 80 columns."""
    out = Console(highlight=False, soft_wrap=False)
    return out if out.is_terminal else Console(highlight=False, width=PIPED_WIDTH)
