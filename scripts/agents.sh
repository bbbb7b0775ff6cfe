#!/bin/sh
# The agents that control rolls out (`tongtu agent deploy`), in dist/agents with their manifest.
#
#   scripts/agents.sh pack FILE...   these programs, as they are built; each is the program that its name says
#   scripts/agents.sh build          builds them for x86_64 and aarch64 against glibc 2.17, which CentOS 7 and
#                                    Kylin V10 have, and packs them; needs cargo-zigbuild and zig
#
# The agent of a hypervisor links the libvirt of the distribution that it runs on. Built for another machine it is linked
# with a libvirt of names alone: those of this machine's libvirt, with their versions.
#
# What a program needs is read from it, not believed: architecture, oldest glibc and libvirt, SHA-256.
set -eu
# What the tools print is read.
export LC_ALL=C
cd "$(dirname "$0")/.."

# The newest symbol version of a library (GLIBC, LIBVIRT) that a program asks for.
newest_of() {
    readelf -V "$2" | grep -o "$1_[0-9][0-9.]*" | sed "s/$1_//" | sort -uV | tail -n 1
}

# Ends the build where a program asks for a newer version of a library than the machines are promised to need.
hold_to() {
    needed=$(newest_of "$1" "$3")
    [ "$(printf '%s\n%s\n' "$needed" "$2" | sort -V | tail -n 1)" = "$2" ] \
        || { echo "$3 needs $1 $needed, not $2" >&2; exit 1; }
}

architecture_of() {
    case "$(readelf -h "$1" | sed -n 's/ *Machine: *//p')" in
        *X86-64*) echo x86_64 ;;
        *AArch64*) echo aarch64 ;;
        *) echo "$1: built for a machine that is not x86_64 or aarch64" >&2; exit 1 ;;
    esac
}

pack() {
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    packages=""
    for file in "$@"; do
        program=$(basename "$file")
        architecture=$(architecture_of "$file")
        glibc=$(newest_of GLIBC "$file" | cut -d . -f 1-2)
        libvirt=$(newest_of LIBVIRT "$file")
        mkdir -p "dist/agents/$architecture"
        cp "$file" "dist/agents/$architecture/$program"
        sha256=$(sha256sum <"$file" | cut -c 1-64)
        size=$(wc -c <"$file" | tr -d ' ')
        packages="$packages${packages:+,}
    { \"program\": \"$program\", \"version\": \"$version\", \"architecture\": \"$architecture\", \"glibc\": \"$glibc\",
      ${libvirt:+\"libvirt\": \"$libvirt\", }\"sha256\": \"$sha256\", \"size\": $size, \"file\": \"$architecture/$program\" }"
        echo "$program $architecture: glibc $glibc or newer,${libvirt:+ libvirt $libvirt or newer,} $size bytes"
    done
    # Last, and whole or not at all: control may read it at any moment.
    printf '{ "packages": [%s\n] }\n' "$packages" >dist/agents/manifest.json.new
    mv -f dist/agents/manifest.json.new dist/agents/manifest.json
}

build() {
    cargo=${CARGO:-cargo}
    cargo-zigbuild zig cc -- --version >/dev/null 2>&1 \
        || { echo "cargo-zigbuild or zig is missing: pip install cargo-zigbuild ziglang, in an environment that is on the path" >&2; exit 1; }
    pkg-config --atleast-version=6.0.0 libvirt \
        || { echo "libvirt's development files are missing, or older than 6.0: scripts/install.sh build" >&2; exit 1; }
    target=$($cargo metadata --no-deps --offline --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    built=""
    for architecture in x86_64 aarch64; do
        triple=$architecture-unknown-linux-gnu
        rustup target list --installed 2>/dev/null | grep -qx "$triple" || rustup target add "$triple"
        libvirt_of_names "$architecture" "$target/$triple/libvirt"
        PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR="$target/$triple/libvirt" \
            $cargo zigbuild --locked --profile agent -p tongtu-agent -p tongtu-agent-libvirt --target "$triple.2.17"
        for program in tongtu-agent tongtu-agent-libvirt; do
            file=$target/$triple/agent/$program
            hold_to GLIBC 2.17 "$file"
            hold_to LIBVIRT 1.2.14 "$file"
            built="$built $file"
        done
    done
    # shellcheck disable=SC2086
    pack $built
}

# A libvirt to link with, for an architecture and in a directory: every public name and nothing behind it.
libvirt_of_names() {
    version=$(pkg-config --modversion libvirt)
    mkdir -p "$2"
    readelf --dyn-syms -W "$(pkg-config --variable=libdir libvirt)/libvirt.so" \
        | awk '$4 == "FUNC" && $8 ~ /^vir[A-Za-z0-9_]*@@LIBVIRT_[0-9.]+$/ { sub("@@", " ", $8); print $8 }' >"$2/names"
    [ -s "$2/names" ] || { echo "this machine's libvirt.so has no names to link with" >&2; exit 1; }
    awk '{ print "void " $1 "(void) {}" }' "$2/names" >"$2/names.c"
    awk '{ names[$2] = names[$2] " " $1 ";" }
         END { for (version in names) print version " { global:" names[version] " };" }' "$2/names" >"$2/names.map"
    cargo-zigbuild zig cc -- -target "$1-linux-gnu.2.17" -shared -fPIC -Wl,-soname,libvirt.so.0 \
        -Wl,--version-script,"$2/names.map" -o "$2/libvirt.so" "$2/names.c"
    printf 'Name: libvirt\nDescription: names alone\nVersion: %s\nLibs: -L%s -lvirt\n' "$version" "$2" >"$2/libvirt.pc"
}

case "${1:-}" in
    pack) shift; [ $# -gt 0 ] && pack "$@" ;;
    build) build ;;
    *) echo "usage: $0 pack FILE... | build" >&2; exit 2 ;;
esac
