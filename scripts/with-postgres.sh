#!/bin/sh
# with-postgres.sh COMMAND...: runs a command with a throw-away PostgreSQL, whose address is in
# TONGTU_TEST_POSTGRES: a server on loopback, on a free port, in which databases can be created.
# Durability is on, as control demands of a server.
set -eu

# Debian keeps the server's programs off the path; the newest version that is installed.
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$programs" ] || { echo "no PostgreSQL server here (scripts/install.sh test installs it)" >&2; exit 1; }

directory=$(mktemp -d)
chmod 755 "$directory"
# The server refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    user=${TONGTU_TEST_USER:-nobody}
    chown "$user" "$directory"
    as_user() { runuser -u "$user" -- "$@"; }
else
    as_user() { "$@"; }
fi

stop() {
    [ ! -e "$directory/data/postmaster.pid" ] || as_user "$programs/pg_ctl" -D "$directory/data" -m immediate -s stop || true
    rm -rf "$directory"
}
trap stop EXIT
trap 'exit 130' INT TERM

cd /
as_user "$programs/initdb" -D "$directory/data" -U tongtu -A trust -E UTF8 --locale=C.UTF-8 >/dev/null

# A free port is one on which the server starts.
port=""
for candidate in $(shuf -n 20 -i 20000-32000); do
    if as_user "$programs/pg_ctl" -D "$directory/data" -l "$directory/data/log" -s -w \
        -o "-c listen_addresses=127.0.0.1 -c port=$candidate -c unix_socket_directories= -c max_connections=200" start; then
        port=$candidate
        break
    fi
done
[ -n "$port" ] || { echo "PostgreSQL did not start:" >&2; cat "$directory/data/log" >&2; exit 1; }
cd "$OLDPWD"

export TONGTU_TEST_POSTGRES="postgres://tongtu@127.0.0.1:$port/postgres"
status=0
"$@" || status=$?
exit $status
