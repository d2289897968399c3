#!/bin/sh
# Creates the account of the simulated devices (profile `demo`). It may publish for all three sample startups, which no
# real account may: a real device has its own account (`gateway devices add`). Safe to run again.
set -eu
host=${MQTT_HOST:-mosquitto}
port=${MQTT_PORT:-1884}
admin=$(cat "${ADMIN_PASSWORD_FILE:-/run/secrets/mqtt-admin-password}")
password=$(cat "${DEMO_PASSWORD_FILE:-/run/secrets/demo-devices-password}")
name=demo-devices

umask 077
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
mkdir "$home/.config"
# passwords by file and by standard input, because `ps` shows arguments
printf -- '-h %s\n-p %s\n-u admin\n-P %s\n' "$host" "$port" "$admin" >"$home/.config/mosquitto_ctrl"

dynsec() { # what already exists is reported on standard error and is not a failure
    HOME="$home" mosquitto_ctrl dynsec "$@" >/dev/null
}
twice() {
    printf '%s\n%s\n' "$password" "$password"
}

dynsec createRole $name
for startup in acme voltwise greenbed; do
    dynsec addRoleACL $name publishClientSend "testbed/$startup/#" allow
    dynsec addRoleACL $name subscribePattern "feedback/$startup/#" allow
    dynsec addRoleACL $name publishClientReceive "feedback/$startup/#" allow
done
twice | dynsec createClient $name
twice | dynsec setClientPassword $name
dynsec addClientRole $name $name
echo "the account $name exists"
