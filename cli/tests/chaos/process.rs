//! A process under fault injection: it may be killed or stopped, and recovers after a while.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use longhand_tests::server::Server;

use crate::program::longhand;

/// A fault that is injected into a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, then a restart.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Stop,
}

#[derive(Debug)]
enum Program {
    /// A `longhand` command, its log, and the process while it lives.
    Longhand {
        arguments: Vec<String>,
        log: PathBuf,
        child: Option<Child>,
    },
    Redis(Box<Server>),
}

/// A process that is restarted after faults.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    program: Program,
    /// The active fault, and when it ends.
    fault: Option<(Fault, Instant)>,
}

impl Process {
    pub(crate) fn longhand(name: &str, log: PathBuf, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut process =
            Self { name: name.to_owned(), program: Program::Longhand { arguments, log, child: None }, fault: None };
        process.start();
        process
    }

    pub(crate) fn redis(server: Server) -> Self {
        Self { name: "redis".into(), program: Program::Redis(Box::new(server)), fault: None }
    }

    pub(crate) fn server(&self) -> &Server {
        match &self.program {
            Program::Redis(server) => server,
            Program::Longhand { .. } => panic!("{} is not a server", self.name),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.fault.is_none()
    }

    pub(crate) fn inject(&mut self, fault: Fault, until: Instant) {
        self.fault = Some((fault, until));
        match (fault, &mut self.program) {
            (Fault::Stop, _) => self.signal("STOP"),
            (Fault::Kill, Program::Redis(server)) => server.kill(),
            (Fault::Kill, Program::Longhand { child, .. }) => {
                let mut child = child.take().unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }

    /// Ends the fault if it is time. A process that ended by itself is restarted, as a supervisor would: a coordinator
    /// that finds no store at its start ends.
    pub(crate) fn recover(&mut self, now: Instant) {
        match self.fault {
            Some((_, until)) if until > now => {}
            Some((Fault::Stop, _)) => {
                self.signal("CONT");
                self.fault = None;
            }
            Some((Fault::Kill, _)) => {
                self.start();
                self.fault = None;
            }
            None => {
                if let Program::Longhand { child: Some(child), .. } = &mut self.program
                    && child.try_wait().unwrap().is_some()
                {
                    self.start();
                }
            }
        }
    }

    fn start(&mut self) {
        match &mut self.program {
            Program::Redis(server) => {
                if server.repair_aof() {
                    println!("a kill left an incomplete transaction in the append-only file");
                }
                server.start_again();
            }
            Program::Longhand { arguments, log, child } => {
                let log = File::options().create(true).append(true).open(log).unwrap();
                let mut command = longhand();
                command.args(arguments).stdout(Stdio::null()).stderr(log);
                *child = Some(command.spawn().unwrap());
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = match &self.program {
            Program::Redis(server) => server.pid(),
            Program::Longhand { child, .. } => child.as_ref().unwrap().id(),
        };
        assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Program::Longhand { child: Some(child), .. } = &mut self.program {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
