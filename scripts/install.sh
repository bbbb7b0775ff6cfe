#!/bin/sh
# Installs what is missing of what a target needs, and says what.
#
#   scripts/install.sh run     a C compiler (for SQLite and ring)
#   scripts/install.sh test    that, and the real servers that the tests talk to
#   scripts/install.sh bench   that, and the peers that the benchmarks compare with
#
# Asks apt only where it may: as root, or where sudo needs no password. Otherwise it prints the line
# to run. What is there already is left alone, so a second run asks nobody.
set -eu

missing=""

# need FOUND PACKAGE...: the packages are needed unless FOUND says that what they bring is there.
need() {
    found=$1
    shift
    sh -c "$found" >/dev/null 2>&1 || missing="$missing $*"
}

on_path() { echo "command -v $1"; }

run_needs() {
    # gcc alone has no headers of the C library.
    need "command -v cc && test -e /usr/include/stdio.h" gcc libc6-dev
}

test_needs() {
    run_needs
    need "ls /usr/lib/postgresql/*/bin/initdb" postgresql
    need "$(on_path prometheus) && $(on_path promtool)" prometheus
    need "$(on_path prometheus-node-exporter)" prometheus-node-exporter
    need "$(on_path strace)" strace
    need "$(on_path mount)" mount
    need "$(on_path runuser)" util-linux
    # The dashboard's build and its walk in a browser, with a font for its Chinese.
    need "$(on_path node)" nodejs
    need "$(on_path npm)" npm
    need "$(on_path chromium) || $(on_path google-chrome)" chromium
    need "fc-list :lang=zh | grep -q ." fontconfig fonts-noto-cjk
}

case "${1:-}" in
    run) run_needs ;;
    test) test_needs ;;
    bench)
        test_needs
        need "$(on_path victoria-metrics)" victoria-metrics
        ;;
    *)
        echo "usage: $0 run|test|bench" >&2
        exit 2
        ;;
esac

[ -n "$missing" ] || exit 0

line="apt-get install --no-install-recommends -y$missing"
if ! command -v apt-get >/dev/null; then
    echo "missing, and this machine has no apt-get; install what these Debian packages bring:$missing" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "missing:$missing; as root run:" >&2
    echo "    apt-get update && $line" >&2
    exit 1
fi

# The packages of servers would start them; the tests start their own, on free ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod +x $policy
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
$as_root ${as_root:+env DEBIAN_FRONTEND=noninteractive} $line -qq >/dev/null
