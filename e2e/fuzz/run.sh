#!/bin/sh
# Runs every fuzz target, or those named, for so many seconds: run.sh [SECONDS [TARGET...]]. cargo-fuzz needs
# instrumentation flags that stable compilers accept only with RUSTC_BOOTSTRAP. What was found before is in corpus/, what
# is worth starting from in seeds/, words worth trying in dictionaries/.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=$*
[ -n "$targets" ] || targets=$(basename -s .rs fuzz_targets/*.rs)
for name in $targets; do
    mkdir -p "corpus/$name"
    set -- "corpus/$name"
    [ -d "seeds/$name" ] && set -- "$@" "seeds/$name"
    set -- "$@" -- -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=4096 -print_final_stats=1
    [ -f "dictionaries/$name.dict" ] && set -- "$@" -dict="dictionaries/$name.dict"
    echo "fuzz $name for $seconds s"
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none "$name" "$@"
done
