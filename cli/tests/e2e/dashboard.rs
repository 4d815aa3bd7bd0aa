//! The HTTP API of the dashboard, on the real program.

use std::time::Duration;

use longhand_proto::clock;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::metrics::request;

struct Pages<'a>(&'a Fleet);

impl Pages<'_> {
    fn get(&self, path: &str) -> Value {
        let (status, body) = request(&format!("{}{path}", self.0.dashboard), "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn post(&self, path: &str, headers: &str, body: &Value) -> (u16, Value) {
        let head = format!("POST\nContent-Type: application/json\n{headers}\n\n{body}");
        let (status, body) = request(&format!("{}{path}", self.0.dashboard), &head);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn done(&self, path: &str, body: &Value) -> Value {
        let (status, response) = self.post(path, "x-longhand: 1", body);
        assert_eq!(status, 200, "{path}: {response}");
        response
    }
}

#[test]
fn a_cancelled_document_is_found_requeued_and_finished() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let pages = Pages(&fleet);
    fleet.submit("ships", 3);
    let runs = pages.get("/api/runs");
    assert_eq!(runs["runs"][0]["id"], "ships");
    assert_eq!(runs["runs"][0]["counts"]["ready"], 3);

    assert_eq!(pages.done("/api/runs/ships/pause", &json!({ "paused": true }))["paused"], true);
    assert_eq!(pages.get("/api/runs/ships")["run"]["paused"], true);
    let found = pages.get("/api/runs/ships/documents?q=ROW-1");
    assert_eq!(found["total"], 1);
    let id = found["items"][0]["id"].as_str().unwrap().to_owned();
    pages.done("/api/runs/ships/cancel", &json!({ "document": id }));
    let cancelled = pages.get("/api/runs/ships/documents?state=cancelled");
    assert_eq!(cancelled["items"][0]["id"], *id);
    assert_eq!(pages.get("/api/runs/ships/documents?state=ready")["total"], 2);

    let asked = json!({ "document": id });
    let dry = pages.done("/api/runs/ships/requeue", &json!({ "document": id, "dry_run": true }));
    assert_eq!(dry["documents"], 1);
    assert_eq!(pages.get("/api/runs/ships")["counts"]["cancelled"], 1, "a dry run changes nothing");
    pages.done("/api/runs/ships/requeue", &asked);
    assert_eq!(pages.post("/api/runs/ships/requeue", "x-longhand: 1", &asked).0, 409, "it is waiting already");

    pages.done("/api/runs/ships/pause", &json!({ "paused": false }));
    let _worker = fleet.worker(&[]);
    fleet.ask(&["watch", "ships"]);
    let run = pages.get("/api/runs/ships");
    assert_eq!(run["counts"]["accepted"], 3, "{run}");
    assert!(run["summary"]["words"].as_u64() > Some(2_000), "{run}");
    assert_eq!(run["details"]["scores"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    assert_eq!(run["summary"]["sections_left"], 0.0);
    let actions: Vec<&str> = run["actions"].as_array().unwrap().iter().filter_map(|it| it["what"].as_str()).collect();
    assert_eq!(actions, ["resume", "requeue", "cancel", "pause"], "operator actions, the latest first");
    assert_eq!(run["actions"][0]["who"], "anonymous at 127.0.0.1");
    let listed = pages.get("/api/runs");
    assert_eq!(listed["runs"][0]["summary"]["words"], run["summary"]["words"]);

    let document = pages.get(&format!("/api/runs/ships/documents/{id}"));
    assert_eq!(pages.get(&format!("/api/runs/ships/documents/{id}/past/0"))["state"], "cancelled");
    assert_eq!(document["state"], "accepted");
    assert_eq!(document["history"].as_array().unwrap().len(), 1, "what it was before the requeue is kept");
    let sections = document["body"]["progress"]["sections"].as_array().unwrap();
    assert_eq!(
        document["attempts"].as_array().unwrap().len(),
        sections.len() + 1,
        "one plan, and one for each section"
    );
    let all = pages.get("/api/runs/ships/documents?sort=words&min=1&page=99");
    assert_eq!((&all["total"], &all["page"]), (&json!(3), &json!(0)), "a page past the end is the last one");
}

#[test]
fn a_foreign_origin_changes_nothing_and_invalid_requests_are_explained() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let pages = Pages(&fleet);
    fleet.submit("ships", 1);
    let cancel = json!({});
    assert_eq!(pages.post("/api/runs/ships/cancel", "Accept: */*", &cancel).0, 403, "our header is missing");
    let foreign = "x-longhand: 1\nOrigin: http://evil.example";
    assert_eq!(pages.post("/api/runs/ships/cancel", foreign, &cancel).0, 403);
    assert_eq!(pages.get("/api/runs")["runs"][0]["counts"]["ready"], 1);

    for (path, body, status, part) in [
        ("/api/runs/ships/requeue", json!({}), 400, "expected either"),
        ("/api/runs/ships/requeue", json!({ "document": "00", "from_section": 0 }), 400, "counted from 1"),
        ("/api/runs/ships/requeue", json!({ "filter": {} }), 400, "dry_run"),
        ("/api/runs/ships/requeue", json!({ "filter": {}, "from_section": 1 }), 400, "expected either"),
        ("/api/workers/nobody/drain", json!({}), 404, "nobody"),
        ("/api/runs/ships/requeue", json!({ "document": "xyz" }), 400, "xyz"),
        ("/api/runs/boats/pause", json!({ "paused": true }), 404, "boats"),
    ] {
        let (found, response) = pages.post(path, "x-longhand: 1", &body);
        assert_eq!(found, status, "{path} {body}: {response}");
        assert!(response["error"].as_str().unwrap_or_default().contains(part), "{path} {body}: {response}");
    }
    let at = |path: &str| request(&format!("{}{path}", fleet.dashboard), "");
    assert_eq!(at("/api/runs/boats").0, 404);
    assert_eq!(at("/api/runs/ships/documents?state=lost").0, 400);
    assert_eq!(at("/api/runs/boats/documents").0, 404);
    for path in ["/", "/runs/ships", "/runs/ships/documents", "/workers", "/assets/app.js", "/assets/style.css"] {
        assert_eq!(at(path).0, 200, "{path}");
    }
    assert_eq!(at("/assets/passwd").0, 404);
}

#[test]
fn confirmed_documents_are_requeued_and_later_changes_are_not() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let pages = Pages(&fleet);
    fleet.submit("ships", 12);
    let cancel = |name: &str| {
        let found = pages.get(&format!("/api/runs/ships/documents?q={name}"));
        pages.done("/api/runs/ships/cancel", &json!({ "document": found["items"][0]["id"] }));
    };
    (2..6).for_each(|number| cancel(&format!("row-{number}")));
    let filter = json!({ "state": "cancelled" });
    let dry = pages.done("/api/runs/ships/requeue", &json!({ "filter": filter, "dry_run": true }));
    assert_eq!(dry["documents"], 4);
    cancel("row-7");
    let done = pages.done("/api/runs/ships/requeue", &json!({ "filter": filter, "mark": dry["mark"] }));
    assert_eq!((&done["documents"], &done["skipped"]), (&json!(4), &json!(0)));
    let left = pages.get("/api/runs/ships/documents?state=cancelled");
    assert_eq!((&left["total"], &left["items"][0]["name"]), (&json!(1), &json!("row-7")));
    let action = &pages.get("/api/runs/ships")["actions"][0];
    assert_eq!((&action["documents"], &action["about"]), (&json!(4), &json!("all cancelled")));
    // The same by a command, in the same audit log.
    fleet.ask(&["cancel", "ships"]);
    let action = &pages.get("/api/runs/ships")["actions"][0];
    assert_eq!((&action["what"], &action["documents"]), (&json!("cancel"), &json!(11)));
}

#[test]
fn all_workers_are_listed_and_one_is_drained() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let pages = Pages(&fleet);
    let quick = ["--checkpoint-seconds", "0.1"];
    let (mut one, _other) = (fleet.worker(&quick), fleet.worker(&quick));
    let until = clock::now() + Duration::from_secs(30);
    let seen = loop {
        let seen = pages.get("/api/workers")["workers"].clone();
        if seen.as_array().unwrap().len() == 2 {
            break seen;
        }
        assert!(clock::now() < until, "idle workers send heartbeats too: {seen}");
    };
    for worker in seen.as_array().unwrap() {
        assert_eq!((&worker["vitals"]["slots"], &worker["vitals"]["model"]["name"]), (&json!(8), &json!("mock")));
        assert_eq!(worker["drain"], false);
    }
    let ids: Vec<&str> = seen.as_array().unwrap().iter().filter_map(|worker| worker["id"].as_str()).collect();
    let pid = one.pid();
    let mine = ids.iter().find(|id| id.contains(&format!("-{pid}-"))).unwrap();
    pages.done(&format!("/api/workers/{mine}/drain"), &json!({}));
    assert_eq!(one.wait(), Some(0), "it releases its documents and exits with 0");
    let after = pages.get("/api/workers");
    let drained: Vec<bool> = ids
        .iter()
        .map(|id| after["workers"].as_array().unwrap().iter().any(|it| it["id"] == *id && it["drain"] == true))
        .collect();
    assert_eq!(drained.iter().filter(|drained| **drained).count(), 1);
    assert_eq!(after["actions"][0]["about"], **mine);
}
