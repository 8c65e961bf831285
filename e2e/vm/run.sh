#!/usr/bin/env bash
# The end-to-end tests inside a virtual machine with a stock Debian kernel, which has what the running one may lack: IPIP.
#
# The machine boots a read-only view of this root file system (virtme-ng on QEMU), runs the test binaries built outside
# and powers off. Nothing is installed into /boot or /lib/modules: the kernel package is unpacked into a cache directory.
#
#   e2e/vm/run.sh                    all end-to-end tests
#   e2e/vm/run.sh ipip               only the test binaries named
#   e2e/vm/run.sh -- COMMAND...      a command of your own, inside
#
#   TORTIE_VM_CACHE   where kernel and virtual environment are kept (~/.cache/tortie-vm)
#   TORTIE_VM_KERNEL  a vmlinuz to boot instead, its modules in ../lib/modules beside it
#   TORTIE_VM_ACCEL   kvm or emulate, instead of finding out
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/sbin:/sbin"
cache=${TORTIE_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tortie-vm}
mkdir -p "$cache"

# Python 3 comes with the package of virtual environments; busybox and kmod make the machine's first file system.
e2e/scripts/need.sh qemu-system-x86_64=qemu-system-x86 /usr/share/doc/python3-venv=python3-venv \
    busybox=busybox-static depmod=kmod strip=binutils file=file
# shellcheck source=e2e/vm/boot.sh
. e2e/vm/boot.sh

shared=$(mktemp -d "${TMPDIR:-/tmp}/tortie-vm.XXXXXX")
trap 'vm_stop; rm -rf "$shared"' EXIT
trap 'exit 130' INT TERM HUP

vm_tools "$cache"
vm_kernel "$cache"
vm_accel

if [ "${1:-}" = -- ]; then
    shift
    printf '%q ' "$@" >"$shared/command"
else
    e2e/vm/pack.sh "$shared" "$@"
fi
echo "Booting Linux $vm_release, $vm_accel_text." >&2
started=$SECONDS
code=0
vm_run "$shared" || code=$?
echo "The virtual machine ran for $((SECONDS - started)) s." >&2
if [ "$code" = 0 ] && [ -e "$shared/proven" ]; then
    printf '\nProven on Linux %s (%s):\n' "$vm_release" "$vm_accel_text"
    sed 's/^/  ✓ /' "$shared/proven"
fi
exit "$code"
