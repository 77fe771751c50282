"""The ``linepress`` command: gathers the verbs. Each verb module is imported only when its verb is asked for."""

from __future__ import annotations

import importlib
import os
import sys

import click

from linepress import __version__
from linepress.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, LinepressError
from linepress_codecs.errors import CodecError
from linepress_hardware.errors import HardwareError

# heading -> verb -> (module with a click command called `command`, one line for --help)
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Measure and record": {
        "run": ("linepress.cli.run", "Run a suite: every stage, every case, recorded and reported."),
        "measure": ("linepress.cli.measure", "Measure files with codecs, as a table; no Ray needed."),
        "pages": ("linepress.cli.pages", "Codecs on KV caches as serving engines hold them."),
        "capture": ("linepress.cli.capture", "Run a model over texts and write its KV caches as snapshots."),
        "validate": ("linepress.cli.validate", "Check snapshots and tensor files: headers, tables, every value."),
        "fit": ("linepress.cli.fit", "Fit a synthetic twin whose lines compress as the real ones do."),
        "report": ("linepress.cli.report", "Build the HTML report of a run."),
        "query": ("linepress.cli.query", "SQL over the tables of a run."),
        "runs": ("linepress.cli.runs", "List, show or delete runs."),
        "claims": ("linepress.cli.claims", "Verdicts on published claims from a run."),
        "list": ("linepress.cli.list", "List codecs, suites, memories, models, racks, runs …"),
        "sync": ("linepress.cli.sync", "Bring MLflow up to date with a run's record."),
    },
    "Every night": {
        "nightly": ("linepress.cli.nightly", "Run, compare with the last good run, gate, report."),
        "compare": ("linepress.cli.compare", "Compare two runs: what changed, and a gate over it."),
    },
    "Hardware": {
        "dram": ("linepress.cli.hardware.dram", "Simulate one memory channel."),
        "channel": ("linepress.cli.hardware.channel", "Simulate a compressed memory channel."),
        "explore": ("linepress.cli.hardware.explore", "Search a compressed channel's design space for its front."),
        "rtl": ("linepress.cli.hardware.rtl", "Decoders as RTL: Verilog, simulation against the codec, synthesis."),
        "roofline": ("linepress.cli.hardware.roofline", "Operators of a model on an accelerator."),
        "system": ("linepress.cli.hardware.system", "What ratios are worth: tokens/s, capacity, racks."),
        "serving": ("linepress.cli.hardware.serving", "Continuous batching: TTFT and TPOT, plain and compressed."),
        "racks": ("linepress.cli.hardware.racks", "Rack tables, checked and derived."),
        "fabric": ("linepress.cli.hardware.fabric", "Links, topologies and collectives of a scale-up fabric."),
    },
    "Partners": {
        "pack": ("linepress.cli.partner.pack", "Make a submission of a model or KV snapshot."),
        "fetch": ("linepress.cli.partner.fetch", "Fetch the files that a submission refers to, checked."),
        "submit": ("linepress.cli.partner.submit", "Check a submission against rules S01 to S21."),
        "explain": ("linepress.cli.partner.explain", "What a rule of submit asks, why, and fixtures that show it."),
        "certify": ("linepress.cli.partner.certify", "Sign what a run found about a submission, in one file."),
        "verify": ("linepress.cli.partner.verify", "Check a certificate anywhere, and re-run it to the bit."),
        "send": ("linepress.cli.partner.send", "Hand a packed submission to an intake service, resuming."),
        "serve": ("linepress.cli.partner.serve", "Take partners' submissions over HTTP and judge them."),
        "partners": ("linepress.cli.partner.partners", "Partners of the service: add, revoke, list, audit log."),
    },
    "This machine": {
        "doctor": ("linepress.cli.doctor", "Check this machine for what a run needs."),
        "warm": ("linepress.cli.warm", "Compile the kernels of a suite before its next run."),
    },
}
VERBS = {verb: entry for group in GROUPS.values() for verb, entry in group.items()}


class LazyGroup(click.Group):
    """A command group whose verbs are imported on use, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(VERBS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, verbs in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(verb, short) for verb, (_, short) in verbs.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a traceback instead of one sentence.")
@click.version_option(__version__, prog_name="linepress")
def app(debug: bool) -> None:
    """From the bytes of a tensor to tokens per second per rack.

    \b
    Start with:
      linepress run smoke
      linepress measure FILE -c huffman -c zstd:level=3:block=64KiB
    """


def mend_streams() -> None:
    """Standard streams that take every character and are there.

    A terminal or pipe that is not UTF-8 gets ``?`` for what it cannot show, instead of a traceback after the work; a
    stream that was closed goes to the null device, also for what writes to its number.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def main() -> None:
    """Entry point: what a user can mend becomes one sentence on stderr and the exit code of the design."""
    debug = "--debug" in sys.argv[1:2]
    mend_streams()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_OK)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (LinepressError, CodecError, HardwareError, OSError) as error:
        if debug:
            raise
        sys.stderr.write(f"linepress: {error}\n")
        sys.exit(getattr(error, "exit_code", EXIT_USAGE))
    sys.exit(code if isinstance(code, int) else 0)
