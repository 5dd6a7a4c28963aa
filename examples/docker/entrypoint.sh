#!/bin/bash
# What a container of sensorsync runs. Words that are no flags are a command of sensorsync: `docker run sensorsync dlq inspect`.
# Else SERVICE_MODE chooses, and flags are added to its command:
#
#   subscribe       store what arrives (the default)
#   stress-publish  publish a load of TOTAL_MESSAGES by CONCURRENCY processes
#   check-cloud     check the connection to the broker
#   init-db         create the tables, or bring them up to date
#   dlq-replay      try the dead letters of all instances of this volume again
#
# MULTI_INSTANCE=true: several containers share the volume. Each takes the first slot that is free and holds it by a lock for as long
# as it runs. A slot is a state folder and an instance of its own, so that no two containers have the same sessions at the broker or
# the same dead-letter box, and a container that is made anew goes on where another one ended. The volume must be on a local disk.
set -euo pipefail

root=${SENSORSYNC_STATE_DIR:-/var/lib/sensorsync}
die() { printf 'entrypoint: %s\n' "$1" >&2; exit 2; }

# For the health check: does the subscriber answer that it is alive? Other modes have nothing that answers, and are over soon.
is_alive() {
    [ "${SERVICE_MODE:-subscribe}" = subscribe ] || exit 0
    exec python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=4)' \
        "http://127.0.0.1:${SENSORSYNC_METRICS__LISTEN##*:}/healthz"
}

# A name that was not given is made once and kept beside the registry of sessions: a container's host name changes when it is made
# anew, and the sessions of the old name would go on collecting messages that nobody fetches.
name_instance() {
    local file=$SENSORSYNC_STATE_DIR/instance
    mkdir -p "$SENSORSYNC_STATE_DIR" || die "$SENSORSYNC_STATE_DIR cannot be written to by user $(id -u)"
    if [ -n "${SENSORSYNC_MQTT__INSTANCE:-}" ]; then
        SENSORSYNC_MQTT__INSTANCE+=${slot:+-$slot}
    else
        [ -s "$file" ] || { printf '%s\n' "$HOSTNAME${slot:+-$slot}" >"$file.new" && mv "$file.new" "$file"; }
        SENSORSYNC_MQTT__INSTANCE=$(cat "$file")
    fi
    export SENSORSYNC_MQTT__INSTANCE
}

take_slot() {
    for ((slot = 1; slot <= 64; slot++)); do
        mkdir -p "$root/$slot" || die "$root cannot be written to by user $(id -u)"
        exec {lock}>"$root/$slot/slot.lock"
        if flock --nonblock "$lock"; then
            # The descriptor stays open in what we become, and the lock with it, until that ends.
            export SENSORSYNC_STATE_DIR=$root/$slot
            return
        fi
        exec {lock}>&-
    done
    die "all 64 slots of $root are taken"
}

multiple() {
    case ${MULTI_INSTANCE:-false} in
        true | 1 | yes) return 0 ;;
        false | 0 | no) return 1 ;;
        *) die "MULTI_INSTANCE must be true or false, not '$MULTI_INSTANCE'" ;;
    esac
}

become() {
    slot=
    if multiple; then take_slot; else export SENSORSYNC_STATE_DIR=$root; fi
    name_instance
    exec sensorsync "$@"
}

# One box after the other; the subscribers go on meanwhile. The exit code is the highest one. The first process of a container is sent
# no SIGTERM unless it asks for it.
replay_all() {
    local box code worst=0 child stopped=
    trap 'stopped=1; kill "$child" 2>/dev/null || true' TERM INT
    for box in "$root/dead-letters.sqlite" "$root"/*/dead-letters.sqlite; do
        [ -z "$stopped" ] && [ -e "$box" ] || continue
        SENSORSYNC_STATE_DIR=$(dirname "$box") sensorsync dlq replay "$@" &
        child=$! code=0
        wait "$child" || code=$?
        # A signal ends `wait`, not the child: its own exit code comes now.
        if [ -n "$stopped" ]; then code=0; wait "$child" || code=$?; fi
        [ "$code" -le "$worst" ] || worst=$code
    done
    exit "$worst"
}

case ${1:-} in
    is-alive) is_alive ;;
    '' | -*) ;;
    *) exec sensorsync "$@" ;;
esac
case ${SERVICE_MODE:-subscribe} in
    subscribe) become subscribe "$@" ;;
    stress-publish | check-cloud | init-db) exec sensorsync "$SERVICE_MODE" "$@" ;;
    dlq-replay) replay_all "$@" ;;
    *) die "SERVICE_MODE must be subscribe, stress-publish, check-cloud, init-db or dlq-replay, not '$SERVICE_MODE'" ;;
esac
