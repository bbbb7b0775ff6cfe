#!/bin/sh
# `make run`: control on its embedded default and the agent of this machine, until Ctrl-C.
#
# Everything that stays is under DATA (./data): control's database and keys, and in DATA/agent the
# agent's certificate and spool. A second run continues with them.
set -eu

bin=$1
data=${2:-data}
http=${TONGTU_HTTP:-127.0.0.1:6480}
agents=${TONGTU_AGENTS:-0.0.0.0:6481}

control=""
agent=""

alive() { kill -0 "$1" 2>/dev/null; }

# stop STATUS PATIENCE: the agent first, so that its last records still find control. With Ctrl-C the terminal has
# told both, and control takes a second word for "at once": each has a while (PATIENCE tenths of a second together)
# to end by itself before it is told.
stop() {
    trap '' INT TERM
    patience=$2
    for pid in $agent $control; do
        while [ "$patience" -gt 0 ] && alive "$pid"; do
            sleep 0.1
            patience=$((patience - 1))
        done
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    exit "$1"
}
trap 'echo; echo "stopping"; stop 0 200' INT
trap 'echo; echo "stopping"; stop 0 0' TERM

# An earlier address must not be taken for this start's.
mkdir -p "$data"
rm -f "$data/http-address"
set -- --data "$data" --http "$http" --agents "$agents"
# Tokens carry this machine's name, which its own agent must be able to find.
if ! getent hosts "$(uname -n)" >/dev/null; then
    echo "this machine's name ($(uname -n)) does not resolve: agents of other machines need tokens of"
    echo "\`tongtu serve --advertise HOST:PORT\`; the agent of this one uses 127.0.0.1"
    set -- "$@" --advertise "127.0.0.1:${agents##*:}"
fi
"$bin/tongtu" serve "$@" &
control=$!

# Control writes its address when it listens; the command line asks it there.
tries=0
until [ -e "$data/http-address" ] && "$bin/tongtu" agent list --data "$data" >/dev/null 2>&1; do
    alive $control || { echo "control did not start; its last line says why" >&2; stop 1 0; }
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "control did not answer at $http within a minute" >&2; stop 1 0; }
    sleep 0.2
done

if [ ! -e "$data/agent/identity.json" ]; then
    token=$("$bin/tongtu" agent token --data "$data")
    "$bin/tongtu-agent" enroll --token "$token" --data "$data/agent" || stop 1 0
fi
"$bin/tongtu-agent" run --data "$data/agent" &
agent=$!

# While nobody can log in: the link of the first security administrator.
first=$("$bin/tongtu" invitation --data "$data" 2>/dev/null) || first="http://$http"

cat <<END

Tongtu runs. Its data is in $data; stop it with Ctrl-C.

  begin          $first
  this machine   curl -H "Authorization: Bearer \$(cat $data/api-token)" http://$http/api/v1/hosts
  agents         $bin/tongtu agent list --data $data
  Prometheus     http://$http/api/v1/prometheus/targets (README.md has the prometheus.yml)
  API            $bin/tongtu openapi

END

while alive $control && alive $agent; do
    # `wait` would not notice the other one; a signal ends the sleep's wait at once.
    sleep 1 &
    wait $! || true
done
alive $control || echo "control has ended; its last line says why" >&2
alive $agent || echo "the agent has ended; its last line says why" >&2
stop 1 0
