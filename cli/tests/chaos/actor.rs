//! A process that may be killed and stopped, and stands up again after a while.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use longhand_tests::server::Server;

use crate::program::longhand;

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    Kill,
    Stop,
}

#[derive(Debug)]
enum Body {
    /// A `longhand` command, its log, and the process while it lives.
    Longhand {
        arguments: Vec<String>,
        log: PathBuf,
        child: Option<Child>,
    },
    Redis(Box<Server>),
}

#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) name: String,
    body: Body,
    /// What it suffers, and until when.
    down: Option<(Blow, Instant)>,
}

impl Actor {
    pub(crate) fn longhand(name: &str, log: PathBuf, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut actor =
            Self { name: name.to_owned(), body: Body::Longhand { arguments, log, child: None }, down: None };
        actor.start();
        actor
    }

    pub(crate) fn redis(server: Server) -> Self {
        Self { name: "redis".into(), body: Body::Redis(Box::new(server)), down: None }
    }

    pub(crate) fn server(&self) -> &Server {
        match &self.body {
            Body::Redis(server) => server,
            Body::Longhand { .. } => panic!("{} is no server", self.name),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.down.is_none()
    }

    pub(crate) fn strike(&mut self, blow: Blow, until: Instant) {
        self.down = Some((blow, until));
        match (blow, &mut self.body) {
            (Blow::Stop, _) => self.signal("STOP"),
            (Blow::Kill, Body::Redis(server)) => server.kill(),
            (Blow::Kill, Body::Longhand { child, .. }) => {
                let mut child = child.take().unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }

    /// Stands up again if it is time. A process that ended by itself is started again, as a supervisor would: a
    /// coordinator that finds no store at its start does so.
    pub(crate) fn tend(&mut self, now: Instant) {
        match self.down {
            Some((_, until)) if until > now => {}
            Some((Blow::Stop, _)) => {
                self.signal("CONT");
                self.down = None;
            }
            Some((Blow::Kill, _)) => {
                self.start();
                self.down = None;
            }
            None => {
                if let Body::Longhand { child: Some(child), .. } = &mut self.body
                    && child.try_wait().unwrap().is_some()
                {
                    self.start();
                }
            }
        }
    }

    fn start(&mut self) {
        match &mut self.body {
            Body::Redis(server) => {
                if server.repair_aof() {
                    println!("a kill left half a transaction in Redis's file");
                }
                server.start_again();
            }
            Body::Longhand { arguments, log, child } => {
                let log = File::options().create(true).append(true).open(log).unwrap();
                let mut command = longhand();
                command.args(arguments).stdout(Stdio::null()).stderr(log);
                *child = Some(command.spawn().unwrap());
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = match &self.body {
            Body::Redis(server) => server.pid(),
            Body::Longhand { child, .. } => child.as_ref().unwrap().id(),
        };
        assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Body::Longhand { child: Some(child), .. } = &mut self.body {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
