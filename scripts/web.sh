#!/bin/sh
# The dashboard: made anew, checked, walked through.
#
#   scripts/web.sh build           makes dashboards/web/dist anew, and the client from src/openapi.json
#   scripts/web.sh check           fails when either differs from what is committed; types and unit tests
#   scripts/web.sh walk BINARIES   the browser tests, against the real service in that folder
#   scripts/web.sh bench …         measures it in a browser; for `tongtu-bench web`
#
# Needs Node 18 or newer and npm; `make run` needs neither, because the build is committed.
set -eu
cd "$(dirname "$0")/../dashboards/web"

node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)' 2>/dev/null || {
    echo "the dashboard's build needs Node 18 or newer and npm" >&2
    exit 1
}
# Only when what is installed is not what is locked.
if ! cmp -s package-lock.json node_modules/.installed 2>/dev/null; then
    npm ci --no-audit --no-fund --ignore-scripts
    cp package-lock.json node_modules/.installed
fi

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
case "${1:-}" in
    build)
        npm run --silent api
        npm run --silent types
        npx vite build --logLevel warn
        ;;
    check)
        npx openapi-typescript ../../src/openapi.json -o "$made/schema.d.ts" --alphabetize >/dev/null
        npm run --silent types
        npx vite build --logLevel warn --outDir "$made/dist" --emptyOutDir
        differs=0
        diff -q "$made/schema.d.ts" src/api/schema.d.ts || differs=1
        diff -rq "$made/dist" dist || differs=1
        if [ $differs = 1 ]; then
            echo "the committed build is not what its sources make: run \`scripts/web.sh build\` and commit" >&2
            exit 1
        fi
        npm run --silent test
        ;;
    walk) node e2e/run.mjs "$2" ;;
    bench)
        shift
        node e2e/bench.mjs "$@"
        ;;
    *)
        echo "usage: $0 build|check|walk BINARIES|bench …" >&2
        exit 2
        ;;
esac
