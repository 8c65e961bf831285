#!/bin/sh
# Runs every fuzz target for so many seconds. cargo-fuzz needs instrumentation flags that stable compilers
# accept only with RUSTC_BOOTSTRAP. What was found before is in corpus/, what is worth starting from in seeds/.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
for target in fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    mkdir -p "corpus/$name"
    set -- "corpus/$name"
    [ -d "seeds/$name" ] && set -- "$@" "seeds/$name"
    echo "fuzz $name for $seconds s"
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none "$name" "$@" -- -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=4096 -print_final_stats=1
done
