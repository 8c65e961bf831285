//! How the process takes memory.

/// Has the C library serve all threads from one heap.
///
/// Its default is eight a processor. What a thread frees stays in the heap it came from, so that on a large machine each
/// keeps what the busiest moment of its threads needed. Measured with 10 000 remote endpoints on two processors: 930
/// octets an endpoint instead of 1140 (`make bench`).
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "std has no setter for it")]
    // SAFETY: `mallopt` takes two integers and may be called at any time; it returns 0 for what it does not know.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
