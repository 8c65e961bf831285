# FRR's bgpd without zebra, and without its delays: by default it collects changes for peers × 50 ms, at most 10 s.
dut_version() { /usr/lib/frr/bgpd --version | head -n 1; }
dut_config() {
  {
    echo "router bgp $DUT_AS"
    echo ' bgp router-id 10.0.0.1'
    echo ' no bgp ebgp-requires-policy'
    echo ' no bgp default ipv4-unicast'
    echo ' coalesce-time 0'
    [ "$MODE" != rr ] || echo ' bgp cluster-id 10.0.0.1'
    [ "$CAPABILITIES" != all ] || echo ' bgp graceful-restart'
    echo ' neighbor P peer-group'
    echo ' neighbor P passive'
    echo ' neighbor P advertisement-interval 0'
    for i in $(seq 0 $((PEERS - 1))); do
      echo " neighbor $(peer_ip "$i") remote-as $(peer_as "$i")"
      echo " neighbor $(peer_ip "$i") peer-group P"
    done
    echo " address-family $FAMILY unicast"
    echo '  neighbor P activate'
    [ "$CAPABILITIES" != all ] || echo '  neighbor P addpath-tx-all-paths'
    [ "$MODE" != rr ] || echo '  neighbor P route-reflector-client'
    echo ' exit-address-family'
  } >"$W/bgpd.conf"
  DUT_CMD=(/usr/lib/frr/bgpd -Z -S -P 0 -f "$W/bgpd.conf" -i "$W/bgpd.pid" -z "$W/zserv" --vty_socket "$W" -l "$DUT_IP" --log file:/dev/null)
}
