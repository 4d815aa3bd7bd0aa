//! The atomic steps: one Lua file each, behind the functions that all of them share.

use std::sync::LazyLock;

use redis::Script;

/// A script and what the server must know of it: one that writes is refused as a whole when there is no memory or no
/// disk, so it never stops half-way.
macro_rules! steps {
    ($($name:ident = $flags:literal $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!("#!lua", $flags, "\n", include_str!("document.lua"), "\n", include_str!($file)))
        });)*
    };
}

steps! {
    CREATE_RUN = "" "create_run.lua";
    SUBMIT = "" "submit.lua";
    PAUSE = "" "pause.lua";
    LOOK = "" "look.lua";
    LEASE = "" "lease.lua";
    RENEW = "" "renew.lua";
    LOOKUP = " flags=no-writes" "lookup.lua";
    COMMIT = "" "commit.lua";
    SWEEP = "" "sweep.lua";
    SWAP = "" "swap.lua";
    GET = " flags=no-writes" "get.lua";
    LIST = " flags=no-writes" "list.lua";
    COUNTS = " flags=no-writes" "counts.lua";
    REPORT = "" "report.lua";
    WORKERS = " flags=no-writes" "workers.lua";
    DRAIN = "" "drain.lua";
    MARK_FLUSHED = "" "mark_flushed.lua";
    AUDIT_DOCUMENTS = "" "audit_documents.lua";
    AUDIT_INDEX = "" "audit_index.lua";
    AUDIT_LEASES = "" "audit_leases.lua";
}
