"""The commands: parse, call, print. What they do is elsewhere."""

import typer

from gateway.cli import letters, operate, provision, rules, startups

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Telemetry gateway for shared test beds: MQTT in, validated, stored, one feed per startup.",
)
app.command()(operate.run)
app.command()(operate.demo)
app.command()(rules.check)
app.command()(rules.schema)
app.command("try")(rules.try_out)
app.command()(operate.status)
app.command()(operate.tail)
app.add_typer(letters.app, name="dead-letters")
app.add_typer(startups.startups_app, name="startups")
app.add_typer(startups.devices_app, name="devices")
app.add_typer(startups.cohort_app, name="cohort")
app.add_typer(provision.app, name="provision")
app.command()(operate.version)
