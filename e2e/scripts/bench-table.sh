#!/bin/sh
# The main figures of the last benchmark run as a table, with the machine they are from: bench-table.sh [CRITERION-DIR].
# A ratio compares the cost of one unit with that of the row it names, measured in the same run.
set -eu
results=${1:-target/criterion}

# median ID: nanoseconds of one iteration
median() {
    file="$results/$1/new/estimates.json"
    [ -r "$file" ] || { echo "no figures at $file: run 'make bench'" >&2; exit 1; }
    jq .median.point_estimate "$file"
}

# row TEXT UNIT ID UNITS [TEXT-OF-REFERENCE ID UNITS]
# UNITS is how much of the unit an iteration does; of a unit "X/s" the rate is printed, of others the time of one.
row() {
    reference="" base=0
    if [ $# -gt 4 ]; then
        base=$(median "$6") reference="$5"
    fi
    # By itself, so that the script ends when there is no figure.
    value=$(median "$3")
    awk -v text="$1" -v unit="$2" -v ns="$value" -v units="$4" -v reference="$reference" -v base="$base" -v base_units="${7:-1}" '
        function short(x) { return x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x) }
        BEGIN {
            per = ns / units
            if (unit ~ /\/s$/) { rate = 1e9 / per; figure = rate >= 1e6 ? short(rate / 1e6) " M " unit : short(rate / 1e3) " k " unit }
            else if (per >= 1e6) figure = short(per / 1e6) " ms" unit
            else if (per >= 1e3) figure = short(per / 1e3) " µs" unit
            else figure = short(per) " ns" unit
            ratio = base > 0 ? short(per / (base / base_units)) " × " reference : ""
            # The µ is two octets wide where awk counts octets.
            pad = index(figure, "µ") && length("µ") == 2 ? 25 : 24
            printf "| %-52s | %-" pad "s | %s\n", text, figure, ratio
        }'
}

model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
echo
echo "${model:-$(uname -m)}, $(nproc) cores, Linux $(uname -r)"
echo "Load when the figures were printed: $(cut -d' ' -f1-3 /proc/loadavg). Cost ratios: below 1 is cheaper than the reference."
echo
printf '| %-52s | %-24s | %s\n' what figure "cost of one, compared"
printf '|-%s-|-%s-|-%s\n' ---------------------------------------------------- ------------------------ ---------------------
one="one a message"
row "decode UPDATE, 1 prefix a message" "/prefix" bgp_update/decode/1 1
row "decode UPDATE, 10 prefixes a message" "/prefix" bgp_update/decode/10 10 "$one" bgp_update/decode/1 1
row "decode UPDATE, 100 prefixes a message" "/prefix" bgp_update/decode/100 100 "$one" bgp_update/decode/1 1
row "encode UPDATE, 1 prefix a message" "/prefix" bgp_update/encode/1 1
row "encode UPDATE, 10 prefixes a message" "/prefix" bgp_update/encode/10 10 "$one" bgp_update/encode/1 1
row "encode UPDATE, 100 prefixes a message" "/prefix" bgp_update/encode/100 100 "$one" bgp_update/encode/1 1
row "speaker, 100 000 routes to 1 peer" "delivered/s" bgp_feed_100k_routes/peers/1 100000
row "speaker, 100 000 routes to 50 peers" "delivered/s" bgp_feed_100k_routes/peers/50 5000000 "to one peer" bgp_feed_100k_routes/peers/1 100000
small="among 1000 endpoints" policies="1000 policies, 500 of 10 000 endpoints here"
row "compile $policies" "" policy/compile/500_of_10000_endpoints 1 "$small" policy/compile/500_of_1000_endpoints 1
row "render  $policies" "" policy/render/500_of_10000_endpoints 1 "$small" policy/render/500_of_1000_endpoints 1
change=policy_change
row "calculate 100 000 endpoints and 2000 policies" "" $change/all/100000_endpoints 1 "10 000 endpoints" $change/all/10000_endpoints 1
row "an endpoint elsewhere is another" "" $change/remote_endpoint/100000_endpoints 2 "among 10 000" $change/remote_endpoint/10000_endpoints 2
row "an endpoint here is another" "" $change/local_endpoint/100000_endpoints 2 "among 10 000" $change/local_endpoint/10000_endpoints 2
row "a policy is another" "" $change/policy/100000_endpoints 2 "among 10 000" $change/policy/10000_endpoints 2
row "parse a selector of three terms" "" selector/parse/typical 1 "one term" selector/parse/equal 1
row "match a selector of one term" "/endpoint" selector/match/equal 10000
row "match a selector of three terms" "/endpoint" selector/match/typical 10000 "one term" selector/match/equal 10000
ipam=ipam/assign_and_release_with_addresses
row "assign and release an address, 50 in use" "" $ipam/50 1
row "assign and release an address, 10 000 in use" "" $ipam/10000 1 "50 in use" $ipam/50 1
row "decide a changed route, of 1000" "" route_change/decided/1000 1
row "decide a changed route, of 100 000" "" route_change/decided/100000 1 "of 1000" route_change/decided/1000 1
row "and write it to the kernel, of 1000" "" route_write/one/1000 1
row "and write it to the kernel, of 100 000" "" route_write/one/100000 1 "of 1000" route_write/one/1000 1
# By the messages alone, without what only people read; from a change of the input on; and by others.
compared() { # TEXT ID UNITS
    row "$1" "" "rules/$2_ours" "$3" "the limit" "rules/$2_limit" "$3"
    for way in "with the calculation=ours_calculated" "a chain for each policy=chains" "nft -f=nft" "nftables crate=crate" \
        "iptables-legacy-restore=iptables_legacy" "iptables-nft-restore=iptables_nft"; do
        id="rules/$2_${way#*=}"
        [ ! -r "$results/$id/new/estimates.json" ] || row "  ${way%%=*}" "" "$id" "$3" "ours" "rules/$2_ours" "$3"
    done
}
compared "load 500 endpoints and 1000 policies of 10 rules" full 1
compared "an endpoint more" endpoint_there_and_back 2
compared "a member more in a set" member_there_and_back 2
compared "a policy is another" policy_there_and_back 2
row "10 000 routes get another next hop, each" "/route" route_write/all_of_10000/route_each 10000
row "the same as a group" "/route" route_write/all_of_10000/group 10000 "each" route_write/all_of_10000/route_each 10000
# A cluster of 1000 nodes, 10 000 endpoints and 2000 policies, as one node loads it.
cat "$results/scale/table"
# An agent's share of a cluster of 100 000 endpoints.
cat "$results/memory/table"
echo
echo "One more endpoint or policy among so many: time of each part; and of the kernel alone, with a table that has nothing but rows of as many endpoints."
echo
cat "$results/growth/table"
echo
echo "Packets from one workload to another of this node, both with policies of 10 rules each way, allowed by the last rule of the last one:"
echo "beyond connection tracking, established: accept, accept; and TCP connections a second, one after the other."
echo
cat "$results/packets/table"
