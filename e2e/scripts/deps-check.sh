#!/bin/sh
# Holds the direction of dependencies between our crates: each may use those named here and no other.
set -eu
allowed() {
    case "$1" in
    tortie-model | tortie-bgp) echo "" ;;
    tortie-policy | tortie-datastore) echo "tortie-model" ;;
    tortie-bgpd) echo "tortie-bgp" ;;
    tortie-agent) echo "tortie-bgp tortie-datastore tortie-model tortie-policy" ;;
    tortie-ctl) echo "tortie-datastore tortie-model tortie-policy" ;;
    tortie-e2e) echo "" ;;
    *) echo "unknown crate $1: name its dependencies in $0" >&2 && exit 1 ;;
    esac
}
status=0
for manifest in */Cargo.toml bgp/daemon/Cargo.toml; do
    crate=$(sed -n 's/^name = "\(tortie-[a-z0-9]*\)"$/\1/p' "$manifest" | head -n 1)
    may=$(allowed "$crate")
    for used in $(cargo tree --package "$crate" --edges normal,build --depth 1 --prefix none | tail -n +2 | cut -d' ' -f1 | grep '^tortie-' || true); do
        case " $may " in
        *" $used "*) ;;
        *) echo "$crate must not depend on $used (may: ${may:-nothing of ours})" >&2 && status=1 ;;
        esac
    done
done
if cargo tree --package tortie-bgp --no-default-features --edges normal --prefix none | grep -q '^tokio '; then
    echo "tortie-bgp without the feature net must not depend on tokio" >&2 && status=1
fi
[ $status = 0 ] && echo "dependencies run one way"
exit $status
