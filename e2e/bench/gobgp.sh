# GoBGP, which programs no kernel by itself.
dut_version() { gobgpd --version; }
dut_config() {
  {
    printf '[global.config]\n  as = %s\n  router-id = "%s"\n  local-address-list = ["%s"]\n' "$DUT_AS" "$DUT_IP" "$DUT_IP"
    for i in $(seq 0 $((PEERS - 1))); do
      printf '[[neighbors]]\n  [neighbors.config]\n    neighbor-address = "%s"\n    peer-as = %s\n' "$(peer_ip "$i")" "$(peer_as "$i")"
      printf '  [neighbors.transport.config]\n    passive-mode = true\n'
      [ "$MODE" != rr ] || printf '  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    route-reflector-cluster-id = "%s"\n' "$DUT_IP"
      printf '  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = "ipv4-unicast"\n'
    done
  } >"$W/gobgpd.conf"
  DUT_CMD=(gobgpd -t toml -f "$W/gobgpd.conf" -l error --api-hosts "unix://$W/gobgp.sock" --pprof-disable)
}
