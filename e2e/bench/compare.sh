#!/usr/bin/env bash
# Our speaker beside BIRD, FRR and GoBGP on the same work, as one markdown table: compare.sh [RUNS]
# LONG=1 adds 500 000 routes. What would take GoBGP minutes is left out, and what BIRD cannot bring up within 30 s is told as that.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
export PATH="$PATH:/usr/sbin:/sbin"
cargo build --release --package tortie-bgpd --package tortie-e2e --bin tortie-bgpd --bin tortie-speaker-bench
results=target/speaker-bench.jsonl
: >$results
measure() { # SPEAKERS SCENARIO [OPTION]...
  local speaker speakers=$1
  shift
  for speaker in $speakers; do
    # A speaker that fails is a row of the table too.
    "$here/run.sh" "$speaker" "$@" --patience 30 >>$results || echo "$speaker $*: see the table" >&2
  done
}
for _ in $(seq "${1:-1}"); do
  measure "bird frr gobgp tortie" feed --prefixes 100000
  [ -z "${LONG:-}" ] || measure "bird frr tortie" feed --prefixes 500000
  measure "bird frr tortie" ebgp --peers 50 --each 1000
  measure "bird frr tortie" rr --peers 50 --each 1000
  measure "bird frr gobgp tortie" rr --peers 100 --each 20
  measure "bird frr gobgp tortie" rr --peers 250 --each 4 --per-set 4
  # What IPv6 and the capabilities with a price change.
  measure "bird frr tortie" feed --prefixes 100000 --ipv6
  measure "bird frr tortie" feed --prefixes 100000 --all-capabilities
  measure "bird frr tortie" rr --peers 50 --each 1000 --all-capabilities
done
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
echo
echo "${model:-$(uname -m)}, $(nproc) cores, Linux $(uname -r). $(bird --version 2>&1); $(/usr/lib/frr/bgpd --version | head -n 1), coalesce-time 0; $(gobgpd --version)."
echo "In brackets: ours in relation to the best of the others. Load when the figures were printed: $(cut -d' ' -f1-3 /proc/loadavg)."
echo
target/release/tortie-speaker-bench table $results
