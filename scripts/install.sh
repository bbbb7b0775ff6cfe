#!/bin/sh
# Installs what is missing of what a target needs, and says what.
#
#   scripts/install.sh run     a C compiler (for SQLite and ring)
#   scripts/install.sh build   that, and what the agent of a hypervisor links to
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

build_needs() {
    run_needs
    need "$(on_path pkg-config)" pkg-config
    need "pkg-config --exists libvirt" libvirt-dev
}

test_needs() {
    build_needs
    need "ls /usr/lib/postgresql/*/bin/initdb" postgresql
    need "$(on_path prometheus) && $(on_path promtool)" prometheus
    need "$(on_path prometheus-node-exporter)" prometheus-node-exporter
    need "$(on_path strace)" strace
    need "$(on_path mount)" mount
    need "$(on_path runuser)" util-linux
    # A machine to roll agents out to, and what judges their unit.
    need "test -x /usr/sbin/sshd" openssh-server
    need "$(on_path sudo)" sudo
    need "$(on_path ssh-keygen)" openssh-client
    need "$(on_path systemd-analyze)" systemd
    # The dashboard's build and its walk in a browser, with a font for its Chinese.
    need "$(on_path node)" nodejs
    need "$(on_path npm)" npm
    need "$(on_path chromium) || $(on_path google-chrome)" chromium
    need "fc-list :lang=zh | grep -q ." fontconfig fonts-noto-cjk
    # Real virtual machines, and the exporter whose names theirs are.
    need "$(on_path libvirtd)" libvirt-daemon libvirt-daemon-driver-qemu
    need "$(on_path virsh)" libvirt-clients
    need "$(on_path qemu-system-x86_64)" qemu-system-x86
    need "busybox ls" busybox-static
    need "$(on_path cpio)" cpio
    need "$(on_path ip)" iproute2
    need "$(on_path prometheus-libvirt-exporter)" prometheus-libvirt-exporter
}

# The kernel that the laboratory's guests boot: Debian's own, unpacked into the cache and not installed.
guest_kernel() {
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/tongtu-lab
    if [ -e "$cache/vmlinuz" ] || [ "$(uname -m)" != x86_64 ] || ! command -v apt-get >/dev/null; then return; fi
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    if [ -z "$kernel" ]; then return; fi
    echo "unpacking: $kernel into $cache"
    work=$(mktemp -d)
    (cd "$work" && apt-get download -qq "$kernel" >/dev/null 2>&1 && dpkg-deb -x ./*.deb tree)
    mkdir -p "$cache/modules"
    for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk failover \
        net_failover virtio_net virtio_balloon; do
        find "$work/tree/lib/modules" -name "$module.ko" -exec cp {} "$cache/modules/" \;
    done
    cp "$work"/tree/boot/vmlinuz-* "$cache/vmlinuz.new"
    mv "$cache/vmlinuz.new" "$cache/vmlinuz"
    rm -rf "$work"
}

case "${1:-}" in
    run) run_needs ;;
    build) build_needs ;;
    test) test_needs ;;
    bench)
        test_needs
        need "$(on_path victoria-metrics)" victoria-metrics
        ;;
    *)
        echo "usage: $0 run|build|test|bench" >&2
        exit 2
        ;;
esac

# install: what is missing, by apt.
install() {
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
}

[ -z "$missing" ] || install
case "$1" in test | bench) guest_kernel ;; esac
