#!/usr/bin/env bash
# A mesh of a thousand peers around one tortie-bgpd, and peers that behave badly: crowd.sh [PEERS]   prints two tables.
# Speaker and peers live in two namespaces inside a user namespace of their own: needs no root, touches nothing outside.
# TORTIE_BGPD and TORTIE_CROWD name other binaries than the release builds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
bin=$here/../../target/release
if [ -z "${CROWD_INSIDE:-}" ]; then
  [ -n "${TORTIE_BGPD:-}" ] || cargo build --release --package tortie-bgpd
  [ -n "${TORTIE_CROWD:-}" ] || cargo build --release --package tortie-e2e --bin tortie-crowd
  CROWD_INSIDE=1 exec unshare --user --map-root-user --net --mount -- "$here/crowd.sh" "$@"
fi
mount -t tmpfs tmpfs /run
export PATH="$PATH:/usr/sbin:/sbin"
ulimit -n "$(ulimit -Hn)"
bgpd=${TORTIE_BGPD:-$bin/tortie-bgpd} crowd=${TORTIE_CROWD:-$bin/tortie-crowd}
PEERS=${1:-1000} W=/run/crowd
mkdir -p $W
peer_ip() { echo "10.0.$((1 + $1 / 250)).$((1 + $1 % 250))"; }
ip netns add speaker
ip netns add peers
ip -n speaker link set lo up
ip -n peers link set lo up
ip link add s0 netns speaker type veth peer name p0 netns peers
ip -n speaker address add 10.0.0.1/16 dev s0
for i in $(seq 0 "$PEERS"); do echo "address add $(peer_ip "$i")/16 dev p0"; done | ip -n peers -batch -
ip -n speaker link set s0 up
ip -n peers link set p0 up
# A thousand neighbours need more room than the kernel gives by default: so it is on every node of a large cluster.
for n in speaker peers; do
  ip netns exec $n sysctl -qw net.ipv4.neigh.default.gc_thresh3=16384 net.ipv4.neigh.default.gc_thresh2=8192 2>/dev/null || true
done

configure() { # PASSIVE
  {
    echo "{as: 65000, router-id: 10.0.0.1, listen: ['10.0.0.1'], originate: ['172.16.0.0/26'],"
    echo "defaults: {local-address: '10.0.0.1', passive: $1, export: ['0.0.0.0/0+']}, peers: ["
    for i in $(seq 0 $((PEERS - 1))); do echo "{address: '$(peer_ip "$i")', as: 65000},"; done
    echo "{address: '$(peer_ip "$PEERS")', as: 65001},"
    echo ']}'
  } >$W/bgpd.yaml
}
ours='' theirs=''
around() { # WHAT THE CROWD DOES...
  rm -f $W/bgpd.sock # A socket left behind would make it a restart, which waits for peers.
  ip netns exec peers ${theirs:+taskset -c $theirs} "$crowd" "$@" -- \
    ip netns exec speaker ${ours:+taskset -c $ours} env RUST_LOG=error "$bgpd" --config $W/bgpd.yaml --socket $W/bgpd.sock
}
echo "| mesh | all sessions up s | converged s | CPU s | MiB | peak MiB | sessions lost |"
echo "|---|---|---|---|---|---|---|"
configure true
around mesh --peers "$PEERS"
configure false
around mesh --peers "$PEERS" --speaker-dials

attacked() { # OPTION OF THE ATTACKER
  {
    echo "{as: 65000, router-id: 10.0.0.1, listen: ['10.0.0.1'],"
    echo "defaults: {local-address: '10.0.0.1', passive: true, restart-time: 0}, peers: ["
    echo "{address: $(peer_ip 0), as: 65001}, {address: $(peer_ip 1), as: 65002}, {address: $(peer_ip 2), as: 65003$1}]}"
  } >$W/bgpd.yaml
}
# On processors of their own: where the scheduler puts two that talk to each other makes more of a difference than any attack.
if [ "$(nproc)" -ge 2 ]; then ours=0 theirs=1; fi
echo
echo "| a third peer | one route p50 ms | p99 ms | most ms | CPU % | MiB | peak MiB | UPDATEs, connections or routes of it | sessions lost |"
echo "|---|---|---|---|---|---|---|---|---|"
attacked ''
around attack --name 'none'
around attack --name 'floods' --kind flood
around attack --name 'stalls' --kind stall
around attack --name 'resets in a loop' --kind reset
around attack --name 'sends 2 million routes' --kind routes
attacked ', max-prefixes: 1000'
around attack --name 'the same, limit 1000' --kind routes
