#!/bin/sh
# Runs every fuzz target for so many seconds. cargo-fuzz needs instrumentation flags that stable compilers
# accept only with RUSTC_BOOTSTRAP.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
for target in fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    echo "fuzz $name for $seconds s"
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none "$name" -- -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=4096 -print_final_stats=1
done
