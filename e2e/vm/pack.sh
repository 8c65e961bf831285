#!/usr/bin/env bash
# Builds the end-to-end tests outside and packs them for the virtual machine without debug information, which would take
# long to read in there. Usage: pack.sh DIRECTORY [TEST...]
set -euo pipefail
shared=$1
shift
mkdir -p "$shared/bin" "$shared/tests"
for name in tortie-node tortie-cni tortiectl tortie-lab; do
    strip -o "$shared/bin/$name" "target/debug/$name"
done
# One line of JSON for each binary built; those of tests/ are wanted.
cargo test --quiet --package tortie-e2e --features ipip --no-run --message-format json 2>/dev/null |
    /usr/bin/python3 -c '
import json, sys
for line in sys.stdin:
    built = json.loads(line)
    if built.get("executable") and "test" in built["target"]["kind"]:
        print(built["target"]["name"], built["executable"])' >"$shared/built"
if [ ! -s "$shared/built" ]; then
    echo "the end-to-end tests do not build: cargo test --package tortie-e2e --features ipip --no-run" >&2
    exit 1
fi
for name in "${@:-}"; do
    [ -z "$name" ] || grep -q "^$name " "$shared/built" || { echo "no test $name in e2e/tests" >&2; exit 1; }
done
while read -r name binary; do
    if [ $# = 0 ] || printf '%s\n' "$@" | grep -qx "$name"; then
        strip -o "$shared/tests/$name" "$binary"
        echo "$name" >>"$shared/order"
    fi
done <"$shared/built"
