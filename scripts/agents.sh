#!/bin/sh
# The agents that control rolls out (`tongtu agent deploy`), in dist/agents with their manifest.
#
#   scripts/agents.sh pack FILE...   these programs, as they are built
#   scripts/agents.sh build          builds them for x86_64 and aarch64 against glibc 2.17, which CentOS 7 and
#                                    Kylin V10 have, and packs them; needs cargo-zigbuild and zig
#
# What a program needs is read from it, not believed: architecture, oldest glibc, SHA-256.
set -eu
cd "$(dirname "$0")/.."

# The newest symbol version of glibc that a program asks for.
glibc_of() {
    readelf -V "$1" | grep -o 'GLIBC_[0-9][0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1
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
        architecture=$(architecture_of "$file")
        glibc=$(glibc_of "$file" | cut -d . -f 1-2)
        mkdir -p "dist/agents/$architecture"
        cp "$file" "dist/agents/$architecture/tongtu-agent"
        sha256=$(sha256sum <"$file" | cut -c 1-64)
        size=$(wc -c <"$file" | tr -d ' ')
        packages="$packages${packages:+,}
    { \"program\": \"tongtu-agent\", \"version\": \"$version\", \"architecture\": \"$architecture\", \"glibc\": \"$glibc\",
      \"sha256\": \"$sha256\", \"size\": $size, \"file\": \"$architecture/tongtu-agent\" }"
        echo "$architecture: glibc $glibc or newer, $size bytes"
    done
    # Last, and whole or not at all: control may read it at any moment.
    printf '{ "packages": [%s\n] }\n' "$packages" >dist/agents/manifest.json.new
    mv -f dist/agents/manifest.json.new dist/agents/manifest.json
}

build() {
    cargo=${CARGO:-cargo}
    $cargo zigbuild --help >/dev/null 2>&1 \
        || { echo "cargo-zigbuild or zig is missing: pip install cargo-zigbuild ziglang, in an environment that is on the path" >&2; exit 1; }
    target=$($cargo metadata --no-deps --offline --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    built=""
    for architecture in x86_64 aarch64; do
        triple=$architecture-unknown-linux-gnu
        rustup target list --installed 2>/dev/null | grep -qx "$triple" || rustup target add "$triple"
        $cargo zigbuild --locked --profile agent -p tongtu-agent --target "$triple.2.17"
        file=$target/$triple/agent/tongtu-agent
        needed=$(glibc_of "$file")
        [ "$(printf '%s\n2.17\n' "$needed" | sort -V | tail -n 1)" = 2.17 ] \
            || { echo "$file needs glibc $needed, not 2.17" >&2; exit 1; }
        built="$built $file"
    done
    # shellcheck disable=SC2086
    pack $built
}

case "${1:-}" in
    pack) shift; [ $# -gt 0 ] && pack "$@" ;;
    build) build ;;
    *) echo "usage: $0 pack FILE... | build" >&2; exit 2 ;;
esac
