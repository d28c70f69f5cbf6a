"""codesign accelerators: what a network can run on."""

import click


@click.command(short_help="List accelerators, FPGA parts and ASIC nodes.")
def accelerators() -> None:
    """List the accelerator kinds, then the FPGA parts and ASIC nodes they can be built in."""
    from rich.table import Table

    from codesign.cli.console import console
    from codesign.hardware import ACCELERATORS, TECHNOLOGIES, FpgaPart

    out = console()
    kinds = Table("accelerator", "structures", "weights", "what", box=None, pad_edge=False)
    for name, kind in ACCELERATORS.items():
        kinds.add_row(name, ", ".join(kind.structures), ", ".join(kind.weights), kind.summary)
    out.print(kinds, "")
    parts = Table("part or node", "nm", "LUT", "FF", "DSP", "BRAM18", box=None, pad_edge=False)
    for name, part in TECHNOLOGIES.items():
        limits = (part.lut, part.ff, part.dsp, part.bram18) if isinstance(part, FpgaPart) else ("-",) * 4
        parts.add_row(name, str(part.node_nm), *(f"{n:,}" if isinstance(n, int) else n for n in limits))
    out.print(parts)
