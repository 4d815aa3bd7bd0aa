//! What this program is: version, commit, and how it was built.

/// For `--version`.
pub(crate) const LONG: &str = env!("LONGHAND_BUILD");

/// Lets every record and handshake name the commit.
pub(crate) fn state() {
    longhand_proto::set_build(env!("LONGHAND_BUILD_COMMIT"));
}
