//! A corpus in an object store: a real server with the S3 protocol.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::fleet::Fleet;
use crate::program::{Ended, cache, longhand};

/// A server with a bucket `corpus`.
struct S3 {
    child: Child,
    url: String,
}

impl S3 {
    fn start() -> Self {
        let port = longhand_tests::server::free_port();
        let mut child = python(&["-m", "moto.server", "-p", &port.to_string()]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(log.any(|line| line.contains("Running on")), "no S3 server: run `make test-deps`");
        std::thread::spawn(move || log.for_each(drop));
        let server = Self { child, url: format!("http://127.0.0.1:{port}") };
        server.ask("s3.create_bucket(Bucket='corpus')");
        server
    }

    fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "somebody"),
            ("AWS_SECRET_ACCESS_KEY", "hidden-0123456789"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ]
    }

    /// What a line of Python prints about it.
    fn ask(&self, line: &str) -> String {
        let script = format!("import boto3, json; s3 = boto3.client('s3', endpoint_url='{}'); {line}", self.url);
        let answer = python(&["-c", &script]).envs(self.environment()).output().unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap()
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let line = format!(
            "print(json.dumps([it['Key'] for it in s3.list_objects_v2(Bucket='corpus', Prefix='{prefix}').get('Contents', [])]))"
        );
        serde_json::from_str(&self.ask(&line)).unwrap()
    }

    fn read(&self, name: &str) -> String {
        self.ask(&format!("print(s3.get_object(Bucket='corpus', Key='{name}')['Body'].read().decode(), end='')"))
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// With the packages that `make test-deps` fetched, and no others.
fn python(args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-S").args(args).env("PYTHONPATH", cache().join("moto"));
    command
}

fn export(fleet: &Fleet, s3: &S3, to: &str) -> Ended {
    let args = ["export", "ships", "-o", to, "--coordinator", &fleet.url, "--json"];
    longhand().args(args).envs(s3.environment()).output().unwrap().into()
}

#[test]
fn an_export_to_a_bucket_is_complete_and_a_second_one_uploads_only_changes() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("store.sqlite").display());
    let more = ["--archive", "s3://corpus/archive", "--archive-seconds", "1"];
    let fleet = Fleet::over(&store, dir, &more, &s3.environment());
    fleet.submit("ships", 4);
    let worker = fleet.worker(&[]);
    fleet.ask(&["watch", "ships"]);

    let ended = export(&fleet, &s3, "s3://corpus/out/ships");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let names = s3.names("out/");
    for name in ["README.md", "data/train-00000-of-00001.jsonl", "data/train-00000-of-00001.parquet", "manifest.json"] {
        assert!(names.contains(&format!("out/ships/{name}")), "{name} is not in {names:?}");
    }
    let ids = |text: &str| {
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut ids: Vec<String> = records.map(|record| record["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let text = s3.read("out/ships/data/train-00000-of-00001.jsonl");
    assert_eq!((text.lines().count(), ids(&text).len()), (4, 4));
    let manifest: Value = serde_json::from_str(&s3.read("out/ships/manifest.json")).unwrap();
    assert_eq!((&manifest["complete"], &manifest["run"]), (&true.into(), &"ships".into()));

    // More rows, and the same command: what stands there is replaced, nothing stands there twice.
    fleet.submit("ships", 6);
    fleet.ask(&["watch", "ships"]);
    drop(worker);
    assert_eq!(export(&fleet, &s3, "s3://corpus/out/ships").code, Some(0));
    let text = s3.read("out/ships/data/train-00000-of-00001.jsonl");
    assert_eq!((text.lines().count(), ids(&text).len()), (6, 6));

    // Objects of another run, or of no run, are not overwritten.
    let ended = export(&fleet, &s3, "s3://corpus/out");
    assert!(ended.code != Some(0) && ended.stderr.contains("which no export wrote"), "{}", ended.stderr);
    for (place, says) in [("s3://nowhere/ships", "nowhere"), ("ftp://corpus/ships", "expected s3://BUCKET/PREFIX")] {
        let ended = export(&fleet, &s3, place);
        assert!(ended.code != Some(0) && ended.stderr.contains(says), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hidden"), "{}", ended.stderr);
    }

    // The coordinator has archived what was accepted.
    let begin = longhand_proto::clock::now();
    loop {
        let shards = s3.names("archive/ships/shards/");
        let archived: usize = shards.iter().map(|name| s3.read(name).lines().count()).sum();
        if archived == 6 && s3.names("archive/ships/manifest/").len() == shards.len() {
            break;
        }
        assert!(begin.elapsed().as_secs() < 60, "not archived within a minute: {shards:?}");
    }
}
