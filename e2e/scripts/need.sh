#!/bin/sh
# Makes sure that programs are there: need.sh PROGRAM=PACKAGE ...
# A name with a slash is a file. What is missing is installed with apt as root or through sudo;
# where neither works, one line says what to install.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
missing=""
for pair in "$@"; do
    program=${pair%%=*}
    package=${pair#*=}
    case "$program" in
    */*) [ -e "$program" ] || missing="$missing $package" ;;
    *) command -v "$program" >/dev/null 2>&1 || missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "missing programs; install them with: sudo apt-get install$missing" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing programs; install the equivalents of these Debian packages:$missing" >&2
    exit 1
fi
echo "installing:$missing" >&2
# Packages must not start their services: the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 0755 $policy
    trap '$as_root rm -f $policy' EXIT
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
