"""The command line: one file a command; errors become one line each, results go to stdout.

Exit codes: 0 done, 1 the input was wrong (one line on stderr for each fault), 2 usage, 130 interrupted.
Nothing heavy is imported until a command needs it.
"""

import sys

import click

from codesign.cli.accelerators import accelerators
from codesign.cli.confirm import confirm
from codesign.cli.data import data
from codesign.cli.estimate import estimate
from codesign.cli.export import export
from codesign.cli.front import front
from codesign.cli.methods import methods
from codesign.cli.report import report
from codesign.cli.search import search
from codesign.cli.tasks import tasks
from codesign.cli.validate import validate
from codesign.cli.worker import worker
from codesign.errors import CodesignError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="codesign")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def app(debug: bool) -> None:
    """Find and deliver compressed recurrent networks for hardware."""


for _command in (
    search,
    worker,
    confirm,
    front,
    report,
    export,
    estimate,
    validate,
    data,
    tasks,
    methods,
    accelerators,
):
    app.add_command(_command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app.main(arguments, prog_name="codesign", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("codesign: interrupted; the same command goes on where it stopped", err=True)
        return 130
    except CodesignError as error:
        if "--debug" in arguments:
            raise
        for line in str(error).splitlines():
            click.echo(f"codesign: {line}", err=True)
        return 1
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        sys.stderr.close()
        return 0
    return 0


def run() -> None:
    """Entry point of the `codesign` script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
