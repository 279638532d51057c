//! A store that somebody else has locked.

use serde_json::json;

use crate::server::{Server, until};

#[test]
fn writes_to_a_locked_store_are_to_be_tried_again() {
    let server = Server::open();
    let id = server.call("", "store_note", &json!({ "text": "before" })).json()["id"].clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lock = runtime.block_on(async {
        let database = libsql::Builder::new_local(server.folder.path().join("knowhow.db")).build().await.unwrap();
        let connection = database.connect().unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").await.unwrap();
        (database, connection)
    });
    let refused = server.call("", "store_note", &json!({ "text": "meanwhile" }));
    assert_eq!((refused.status, refused.kind()), (504, "timed_out".to_owned()), "{refused:?}");
    assert_eq!(refused.json()["error"]["temporary"], true, "{refused:?}");
    assert_eq!(server.call("", "get_note", &json!({ "id": id })).json()["text"], "before", "reads by id go on");
    drop(lock);
    until(|| server.call("", "store_note", &json!({ "text": "meanwhile" })).status == 200);
    let metrics = server.get("", "/metrics").body;
    assert!(metrics.contains("{operation=\"store_note\",outcome=\"timed_out\"} 1"), "{metrics}");
    assert!(server.end().0);
}
