//! Child processes of a benchmark.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Makes the child end when this process is killed, so that it does not keep computing.
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: one system call, which allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// A process that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exited {
    /// Wait status of the operating system; 0 for success.
    pub(crate) status: i32,
    /// Peak resident memory, in bytes.
    pub(crate) peak_memory: u64,
    /// CPU time of all threads, in seconds.
    pub(crate) processor_seconds: f64,
}

/// Waits for a child.
pub(crate) fn wait(child: &Child) -> std::io::Result<Exited> {
    let mut status = 0;
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals of the right types, and nobody else waits for this child.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    if waited < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let processor_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    // Linux counts in KiB.
    Ok(Exited { status, peak_memory: usage.ru_maxrss as u64 * 1024, processor_seconds })
}
