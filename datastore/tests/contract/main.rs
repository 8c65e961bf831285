//! The contract of [`tortie_datastore::Store`], held against every backend: in memory, the embedded server, and the real
//! etcd of the distribution, alone and as three members. Besides: durability of the embedded server, etcdctl against it,
//! and random requests to it and to etcd at once.
//!
//! Needs `etcd` and `etcdctl` (Debian: `apt install etcd-server etcd-client`); fails in words without them. Everything runs
//! on loopback ports and in temporary directories of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backend;
mod chaos;
mod cluster;
mod connection;
mod differential;
mod durability;
mod etcdctl;
mod failures;
mod network;
mod serving;
mod suite;
mod syncing;
mod users;
mod watching;

macro_rules! contract {
    ($($case:ident on $($backend:ident)+;)*) => {$(
        mod $case {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $backend() {
                    let mut backend = crate::backend::Backend::$backend().await;
                    crate::suite::$case(&mut backend).await;
                }
            )+
        }
    )*};
}

contract! {
    get_and_list on memory embedded etcd cluster;
    lists_are_of_one_revision on memory embedded etcd cluster;
    compares_decide on memory embedded etcd cluster;
    transactions_are_atomic on memory embedded etcd cluster;
    malformed_transactions_are_refused on memory embedded etcd cluster;
    counters_lose_no_increment on memory embedded etcd cluster;
    watches_deliver_whole_revisions_in_order on memory embedded etcd cluster;
    watches_resume_without_loss_or_repetition on memory embedded etcd cluster;
    a_future_revision_is_waited_for on memory embedded etcd cluster;
    a_compacted_watch_says_so on memory embedded etcd cluster;
    large_revisions_stay_whole on memory embedded etcd cluster;
    leases_take_their_keys_with_them on embedded etcd cluster;
    a_dead_server_is_an_error_in_time on embedded etcd cluster;
}
