#!/usr/bin/env bash
# Inside the virtual machine: loads what the tests need, runs them, leaves output and exit code in the shared directory.
shared=$1
export TORTIE_E2E_SLOW=$2
exec >>"$shared/output" 2>&1
cd "$(dirname "$0")/../.." || exit 1
export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A root of another user namespace may not load modules, so they are loaded before.
for module in ipip veth bridge nf_tables nft_fib_inet nft_masq nft_ct nft_reject_inet nf_conntrack nf_nat; do
    modprobe "$module" 2>/dev/null || grep -q "/${module}.ko" "/lib/modules/$(uname -r)/modules.builtin" ||
        echo "note: no module $module in this kernel"
done
if [ -e "$shared/command" ]; then
    bash -c "$(cat "$shared/command")"
    echo $? >"$shared/code"
    exit
fi
export TORTIE_BIN_DIR="$shared/bin"
code=0
: >"$shared/proven"
while read -r name; do
    started=$SECONDS
    printf '\n── %s\n' "$name"
    if "$shared/tests/$name" --test-threads 1; then
        "$shared/tests/$name" --list 2>/dev/null | sed -n "s/^\(.*\): test$/$name: \1/p" | tr _ ' ' >>"$shared/proven"
    else
        code=1
    fi
    echo "($name: $((SECONDS - started)) s)"
done <"$shared/order"
echo "$code" >"$shared/code"
