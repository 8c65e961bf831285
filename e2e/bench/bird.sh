# BIRD 2 without a kernel protocol. Sourced by run.sh; tortie.sh says what it may use.
dut_version() { bird --version 2>&1; }
dut_config() {
  {
    channel='import all; export all;' graceful=off
    [ "$CAPABILITIES" != all ] || { channel="$channel add paths on;" graceful=on; }
    echo 'router id 10.0.0.1;'
    echo 'log stderr { fatal, error };'
    echo 'protocol device {}'
    echo "template bgp t { local $DUT_IP as $DUT_AS; direct; passive yes; graceful restart $graceful; $FAMILY { $channel };"
    [ "$MODE" != rr ] || echo "  rr client; rr cluster id 10.0.0.1;"
    echo '}'
    for i in $(seq 0 $((PEERS - 1))); do
      echo "protocol bgp p$i from t { neighbor $(peer_ip "$i") as $(peer_as "$i"); }"
    done
  } >"$W/bird.conf"
  DUT_CMD=(bird -f -c "$W/bird.conf" -s "$W/bird.ctl")
}
