# tortie-bgpd as a device under test. Sourced by the measuring program, which sets W, DUT_IP, DUT_AS, MODE (ebgp or rr) and PEERS, and has
# peer_ip and peer_as; where it can do more also FAMILY (ipv4 or ipv6) and CAPABILITIES (all: add-path and graceful restart).
# TORTIE_BGPD names another binary than the release build of this tree.
tortie_bgpd=${TORTIE_BGPD:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/release/tortie-bgpd}
dut_version() { "$tortie_bgpd" --version; }
dut_config() {
  [ -x "$tortie_bgpd" ] || { echo "no $tortie_bgpd: cargo build --release --package tortie-bgpd" >&2; return 1; }
  {
    echo "{as: $DUT_AS, router-id: 10.0.0.1, listen: ['$DUT_IP'],"
    # The others do not restart gracefully either, unless they are told.
    more='restart-time: 0'
    [ "${CAPABILITIES:-}" != all ] || more='restart-time: 120, add-path: both'
    echo "defaults: {local-address: '$DUT_IP', passive: true, $more, reflector-client: $([ "$MODE" = rr ] && echo true || echo false)},"
    echo 'peers: ['
    for i in $(seq 0 $((PEERS - 1))); do
      echo "{address: '$(peer_ip "$i")', as: $(peer_as "$i")},"
    done
    echo ']}'
  } >"$W/bgpd.yaml"
  DUT_CMD=(env RUST_LOG=warn "$tortie_bgpd" --config "$W/bgpd.yaml" --socket "$W/bgpd.sock")
}
