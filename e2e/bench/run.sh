#!/usr/bin/env bash
# One measurement of one speaker: run.sh SPEAKER feed|ebgp|rr [OPTION]...   prints one line of JSON.
# SPEAKER names a file beside this one; options are those of `tortie-speaker-bench measure`, such as --peers 50 --each 1000,
# and --ipv6.
# Speaker and peers live in two namespaces inside a user namespace of their own: needs no root, touches nothing outside.
# SPEAKER_CPUS and PEERS_CPUS are lists for taskset: all processors, and the last one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${SPEAKER_BENCH_INSIDE:-}" ]; then
  SPEAKER_BENCH_INSIDE=1 exec unshare --user --map-root-user --net --mount -- "$0" "$@"
fi
mount -t tmpfs tmpfs /run
speaker=$1 scenario=$2
shift 2
export PATH="$PATH:/usr/sbin:/sbin"
W=/run/bench DUT_IP=10.0.0.1 DUT_AS=65000 MODE=ebgp PEERS=3 FAMILY=ipv4 CAPABILITIES=few
mkdir -p $W
[ "$scenario" != rr ] || MODE=rr
[ "$scenario" = feed ] || PEERS=50
options=()
while [ $# -gt 0 ]; do
  case $1 in
  --ipv6) FAMILY=ipv6 DUT_IP=fd00:10::1 ;;
  --peers) PEERS=$2 options+=("$1" "$2") && shift ;;
  --all-capabilities) CAPABILITIES=all options+=("$1") ;;
  *) options+=("$1") ;;
  esac
  shift
done
if [ $FAMILY = ipv6 ]; then
  length=64 flags=nodad
  peer_ip() { echo "fd00:10::$((1 + $1 / 250)):$((1 + $1 % 250))"; }
else
  length=16 flags=
  peer_ip() { echo "10.0.$((1 + $1 / 250)).$((1 + $1 % 250))"; }
fi
peer_as() { if [ "$MODE" = rr ]; then echo $DUT_AS; else echo $((65001 + $1)); fi; }
# shellcheck disable=SC1090
. "$here/$speaker.sh"

ip netns add speaker
ip netns add peers
ip -n speaker link set lo up
ip link add s0 netns speaker type veth peer name p0 netns peers
ip -n speaker address add $DUT_IP/$length dev s0 $flags
for i in $(seq 0 $((PEERS - 1))); do echo "address add $(peer_ip "$i")/$length dev p0 $flags"; done | ip -n peers -batch -
ip -n speaker link set s0 up
ip -n peers link set p0 up

dut_config
last=$(($(nproc) - 1))
ip netns exec speaker taskset -c "${SPEAKER_CPUS:-0-$last}" "${DUT_CMD[@]}" >$W/log 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null || true' EXIT
for _ in $(seq 200); do
  ! ip netns exec speaker ss -Hltn 'sport = :179' | grep -q . || break
  kill -0 $pid 2>/dev/null || break
  sleep 0.05
done
rc=0
ip netns exec peers taskset -c "${PEERS_CPUS:-$last}" "$here/../../target/release/tortie-speaker-bench" measure \
  --name "$speaker" --scenario "$scenario" --target $DUT_IP --pid $pid "${options[@]}" || rc=$?
[ $rc = 0 ] || tail -n 5 $W/log >&2
exit $rc
