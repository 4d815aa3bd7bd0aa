//! What the dashboard's pages ask and do, over HTTP, on the real program.

use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::numbers::request;

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
        let (status, told) = self.post(path, "x-longhand: 1", body);
        assert_eq!(status, 200, "{path}: {told}");
        told
    }
}

#[test]
fn a_document_cancelled_by_hand_is_found_requeued_and_finished() {
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
    assert_eq!(pages.get("/api/runs/ships")["counts"]["cancelled"], 1, "a question changes nothing");
    pages.done("/api/runs/ships/requeue", &asked);
    assert_eq!(pages.post("/api/runs/ships/requeue", "x-longhand: 1", &asked).0, 409, "it is waiting already");

    pages.done("/api/runs/ships/pause", &json!({ "paused": false }));
    let _worker = fleet.worker(&[]);
    fleet.ask(&["watch", "ships"]);
    let run = pages.get("/api/runs/ships");
    assert_eq!(run["counts"]["accepted"], 3, "{run}");
    assert!(run["words"].as_u64() > Some(2_000), "{run}");
    assert_eq!(run["scores"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    assert_eq!(run["sections_left"], 0.0);

    let document = pages.get(&format!("/api/runs/ships/documents/{id}"));
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
fn a_foreign_page_changes_nothing_and_wrong_requests_are_told_why() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let pages = Pages(&fleet);
    fleet.submit("ships", 1);
    let cancel = json!({});
    assert_eq!(pages.post("/api/runs/ships/cancel", "Accept: */*", &cancel).0, 403, "our header is missing");
    let foreign = "x-longhand: 1\nOrigin: http://evil.example";
    assert_eq!(pages.post("/api/runs/ships/cancel", foreign, &cancel).0, 403);
    assert_eq!(pages.get("/api/runs")["runs"][0]["counts"]["ready"], 1);

    for (path, body, status, part) in [
        ("/api/runs/ships/requeue", json!({}), 400, "want one of"),
        ("/api/runs/ships/requeue", json!({ "failed": true, "from_section": 0 }), 400, "counted from 1"),
        ("/api/runs/ships/requeue", json!({ "document": "xyz" }), 400, "xyz"),
        ("/api/runs/boats/pause", json!({ "paused": true }), 404, "boats"),
    ] {
        let (found, told) = pages.post(path, "x-longhand: 1", &body);
        assert_eq!(found, status, "{path} {body}: {told}");
        assert!(told["error"].as_str().unwrap_or_default().contains(part), "{path} {body}: {told}");
    }
    let at = |path: &str| request(&format!("{}{path}", fleet.dashboard), "");
    assert_eq!(at("/api/runs/boats").0, 404);
    assert_eq!(at("/api/runs/ships/documents?state=lost").0, 400);
    for path in ["/", "/runs/ships", "/runs/ships/documents", "/assets/app.js", "/assets/style.css", "/assets/icon.svg"]
    {
        assert_eq!(at(path).0, 200, "{path}");
    }
    assert_eq!(at("/assets/passwd").0, 404);
}
