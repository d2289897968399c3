#!/bin/sh
# Starts Mosquitto. At the very first start it creates the dynamic security plugin's file, with one account: the admin.
set -eu
security=${SECURITY_FILE:-/mosquitto/data/dynamic-security.json}
conf=${CONF_FILE:-/mosquitto/config/mosquitto.conf}
secret=${ADMIN_PASSWORD_FILE:-/run/secrets/mqtt-admin-password}

if [ ! -s "$security" ]; then
    password=$(cat "$secret")
    if [ -z "$password" ]; then
        echo "$secret: expected the password of Mosquitto's admin; it is empty. Set MQTT_ADMIN_PASSWORD in .env" >&2
        exit 1
    fi
    umask 077
    rm -f "$security.new"
    # by standard input, because `ps` shows arguments
    printf '%s\n%s\n' "$password" "$password" | mosquitto_ctrl dynsec init "$security.new" admin >/dev/null
    mv "$security.new" "$security"
fi
exec mosquitto -c "$conf"
