use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tortie_datastore::memory::MemoryStore;
use tortie_model::resource::{Node, NodeSpec};

use super::*;

fn client() -> Client {
    Client::new(Arc::new(MemoryStore::default()))
}

fn node(label: &str) -> AnyResource {
    let labels = [(label.to_owned(), String::new())].into();
    Node::new(ObjectMeta { labels, ..ObjectMeta::named("n1") }, NodeSpec::default()).into()
}

fn labels(resource: &AnyResource) -> Vec<&str> {
    resource.metadata().labels.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn create_stamps_and_keeps_only_what_is_the_users() {
    let mut document = node("a");
    document.metadata_mut().uid = Some("mine".into());
    document.metadata_mut().creation_timestamp = Some("long ago".into());
    let created = create(&client(), document).await.unwrap();
    let metadata = created.metadata();
    assert_eq!(metadata.uid.as_deref().map(str::len), Some(36));
    let time = metadata.creation_timestamp.as_deref().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    assert_eq!(metadata.resource_version.as_deref(), Some("1"));
}

#[tokio::test]
async fn an_update_that_lost_a_race_is_repeated_on_what_the_winner_wrote() {
    let client = client();
    create(&client, node("a")).await.unwrap();
    let tries = AtomicUsize::new(0);
    let id = identifier(Kind::Node, "", "n1");
    let other = client.clone();
    let change = |mut current: AnyResource| {
        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
            // Someone else is faster.
            let mut theirs = current.clone();
            theirs.metadata_mut().labels.insert("theirs".into(), String::new());
            futures_block(other.update(theirs)).unwrap();
        }
        current.metadata_mut().labels.insert("ours".into(), String::new());
        Ok(current)
    };
    let written = modify(&client, &id, None, change).await.unwrap();
    assert_eq!(labels(&written), ["a", "ours", "theirs"]);
    assert_eq!(tries.into_inner(), 2);
}

/// The memory store answers at once, so waiting inside a plain function cannot hang.
fn futures_block<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the memory store did not answer at once"),
    }
}

#[tokio::test]
async fn a_revision_given_by_the_user_is_not_retried() {
    let client = client();
    create(&client, node("a")).await.unwrap();
    let mut stale = node("b");
    stale.metadata_mut().resource_version = Some("99".into());
    let error = replace(&client, stale).await.unwrap_err();
    assert_eq!(error.to_string(), "update conflict: Node(n1)");
}

#[tokio::test]
async fn apply_takes_labels_from_the_document_and_the_rest_from_the_store() {
    let client = client();
    let created = apply(&client, node("a")).await.unwrap();
    let applied = apply(&client, node("b")).await.unwrap();
    assert_eq!(labels(&applied), ["b"]);
    assert_eq!(applied.metadata().uid, created.metadata().uid);
    assert_eq!(applied.metadata().creation_timestamp, created.metadata().creation_timestamp);
    let absent = replace(&self::client(), node("a")).await.unwrap_err();
    assert_eq!(absent.to_string(), "resource does not exist: Node(n1) with error: <nil>");
}
