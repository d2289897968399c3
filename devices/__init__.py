"""A simulated fleet of MQTT sensors for the test bed: believable devices of three young companies.

    python -m devices --help

| startup  | field                           | devices                                    |
|----------|---------------------------------|--------------------------------------------|
| acme     | indoor air quality, on battery  | air-01, air-02, ...                        |
| voltwise | charging points, on the mains   | charger-01, ..., two connectors each       |
| greenbed | vertical farming                | probe-01, pump-02, probe-03, ... in beds   |

Each device is an MQTT client of its own. It measures on its own clock, keeps what it cannot send, loses its
connection now and then, comes back as real devices do, and listens to the gateway's reports on
`feedback/{startup}/{device}`. Some devices misbehave in some of their messages (see `faults`).

The modules, in the order in which a measurement passes them, lowest first:

    signals, charging  the physical world: seeded, deterministic functions of time
    telemetry          types that pass between the modules: Channel, Telemetry, Message
    sensors            the devices: from signals to JSON
    faults             mistakes of developers
    fleet              the devices that exist, and which of them misbehave
    broker, settings   the broker, and how devices behave on the network
    client             one device, one MQTT connection
    report, run        output for people; all devices in one TaskGroup

The payloads follow the sample configuration in `config/startups/`. This package meets the gateway only over
MQTT: neither imports the other.
"""
