"""A simulated fleet of MQTT sensors for the test bed: believable devices of three young companies.

    python -m devices --help

| startup  | field                           | devices                                    |
|----------|---------------------------------|--------------------------------------------|
| acme     | indoor air quality, on battery  | air-01, air-02, ...                        |
| voltwise | charging points, on the mains   | charger-01, ..., two connectors each       |
| greenbed | vertical farming                | probe-01, pump-02, probe-03, ... in beds   |

Each device is an MQTT client of its own. It measures on its own clock, keeps what it cannot send, loses its
connection now and then, comes back as real devices do, and listens to what the gateway tells it on
`feedback/{startup}/{device}`. Some devices misbehave for a part of their messages (see `faults`).

The way of a measurement, and the modules in its order, lowest first:

    signals, charging  what the physical world does: seeded, deterministic functions of time
    telemetry          what crosses between the modules: Channel, Telemetry, Message
    sensors            the devices: from signals to JSON
    faults             what developers get wrong
    fleet              which devices exist, and which of them misbehave
    broker, settings   where the broker is, and how devices behave on the way to it
    client             one device, one MQTT connection
    report, run        what a person sees; all devices in one TaskGroup

The payloads follow the sample configuration in `config/startups/`. This package meets the gateway only over
the wire: neither imports the other.
"""
