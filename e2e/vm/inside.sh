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
# The root file system comes from outside piece by piece, and each start of a program reads its file again. What the tests
# start over and over is copied into memory and mounted over the original.
memory=/tmp/tortie
mkdir -p $memory/files
programs=$(command -v bash ip nft bird birdc ping tcpdump etcdctl sysctl unshare cat uname)
# shellcheck disable=SC2086
for file in $(ldd $programs 2>/dev/null | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p') $programs; do
    file=$(realpath "$file")
    copy=$memory/files/${file//\//_}
    [ -e "$copy" ] || { cp "$file" "$copy" && mount --bind "$copy" "$file"; }
done
if [ -e "$shared/command" ]; then
    bash -c "$(cat "$shared/command")"
    echo $? >"$shared/code"
    exit
fi
cp -r "$shared/bin" "$shared/tests" $memory
export TORTIE_BIN_DIR=$memory/bin
code=0
: >"$shared/proven"
while read -r name; do
    started=$SECONDS
    printf '\n── %s\n' "$name"
    if "$memory/tests/$name" --test-threads 2; then
        "$memory/tests/$name" --list 2>/dev/null | sed -n "s/^\(.*\): test$/$name: \1/p" | tr _ ' ' >>"$shared/proven"
    else
        code=1
    fi
    echo "($name: $((SECONDS - started)) s)"
done <"$shared/order"
echo "$code" >"$shared/code"
