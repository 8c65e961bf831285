# Functions of run.sh: tools, kernel, and booting a command. Sourced, not run.
# shellcheck shell=bash

VIRTME_NG=virtme-ng==1.42

# virtme-ng in a virtual environment; it starts its own programs by name, so their directory comes first in PATH.
vm_tools() { # CACHE
    if [ ! -x "$1/venv/bin/vng" ] || [ "$(cat "$1/venv/tortie" 2>/dev/null)" != "$VIRTME_NG" ]; then
        rm -rf "$1/venv"
        /usr/bin/python3 -m venv "$1/venv"
        "$1/venv/bin/pip" --quiet --disable-pip-version-check install "$VIRTME_NG"
        echo "$VIRTME_NG" >"$1/venv/tortie"
    fi
    PATH="$1/venv/bin:$PATH"
}

# The kernel: Debian's current one, unpacked. Sets vm_kernel_image and vm_release.
vm_kernel() { # CACHE
    if [ -n "${TORTIE_VM_KERNEL:-}" ]; then
        vm_kernel_image=$TORTIE_VM_KERNEL
    else
        local package
        package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
        if [ -n "$package" ] && [ ! -e "$1/$package/done" ]; then
            rm -rf "${1:?}/$package"
            mkdir -p "$1/$package"
            (cd "$1/$package" && apt-get -qq download "$package" 2>/dev/null && dpkg-deb -x "$package"_*.deb . && rm -f ./*.deb && touch done)
        fi
        # Without package lists the one unpacked last will do.
        vm_kernel_image=$(find "$1" -path "$1/${package:-linux-image-*}/boot/vmlinuz-*" | sort | tail -n 1)
        if [ -z "$vm_kernel_image" ]; then
            echo "no kernel for the virtual machine: run apt-get update, or set TORTIE_VM_KERNEL" >&2
            exit 1
        fi
    fi
    vm_release=${vm_kernel_image##*/vmlinuz-}
}

# KVM where it boots this kernel, else emulation. Uses run.sh's directory `shared`. Sets vm_accel_flags, vm_accel_text and vm_slow.
vm_accel() {
    local accel=${TORTIE_VM_ACCEL:-}
    if [ -z "$accel" ] && [ -w /dev/kvm ] && vm_try_kvm; then accel=kvm; fi
    if [ "$accel" = kvm ]; then
        vm_accel_flags=() vm_accel_text="with KVM" vm_slow=3
    else
        vm_accel_flags=(--disable-kvm) vm_accel_text="emulated by software" vm_slow=10
    fi
}

vm_try_kvm() {
    local code=0
    mkdir "$shared/try"
    echo true >"$shared/try/command"
    vm_accel_flags=() vm_slow=1
    VM_LIMIT=25 vm_run "$shared/try" >/dev/null 2>&1 || code=$?
    return $code
}

# Ends the machine if it still runs. timeout has a process group of its own and passes the signal on to all in it.
vm_stop() {
    [ -z "${vm_pid:-}" ] || kill "$vm_pid" 2>/dev/null || true
}

# Boots, runs inside.sh, and returns its exit code. SHARED is the one directory both sides write: what the machine prints
# comes through a file there, since its console carries the kernel's words as well.
vm_run() { # SHARED
    local shared=$1 tail_pid code
    : >"$shared/output"
    timeout "${VM_LIMIT:-1500}" vng "${vm_accel_flags[@]}" --verbose --cpus 2 --memory 2G --run "$vm_kernel_image" \
        --user root --rwdir "$shared" -- "$PWD/e2e/vm/inside.sh $shared $vm_slow" \
        </dev/null >"$shared/console" 2>&1 &
    vm_pid=$!
    tail -n +1 -f --pid "$vm_pid" "$shared/output" &
    tail_pid=$!
    # Waiting is what lets a signal through.
    wait "$vm_pid" || true
    vm_pid=
    wait "$tail_pid" || true
    if [ ! -e "$shared/code" ]; then
        echo "the virtual machine ended without a result; the end of its console:" >&2
        tail -n 40 "$shared/console" >&2
        return 1
    fi
    code=$(cat "$shared/code")
    return "$code"
}
