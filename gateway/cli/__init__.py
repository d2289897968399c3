"""Commands: they parse, call and print; the work is done elsewhere."""

import typer

from gateway.cli import cohorts, dead_letters, devices, hosts, lanes, provision, rules, running, startups, types

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Telemetry gateway for shared test beds: MQTT in, validated, stored, one feed per startup.",
)
app.command()(running.run)
app.command()(running.demo)
app.command()(rules.check)
app.command()(rules.schema)
app.command("try")(rules.try_out)
app.command()(running.status)
app.command()(running.tail)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(lanes.app, name="lanes")
app.add_typer(types.app, name="types")
app.add_typer(startups.app, name="startups")
app.add_typer(devices.app, name="devices")
app.add_typer(cohorts.app, name="cohort")
app.add_typer(hosts.app, name="hosts")
app.add_typer(provision.app, name="provision")
app.command()(running.version)
