//! Version and commit of this program.

/// For `--version`.
pub(crate) const LONG: &str = env!("LONGHAND_BUILD");

/// Makes every record and handshake name the commit.
pub(crate) fn set_build() {
    longhand_proto::set_build(env!("LONGHAND_BUILD_COMMIT"));
}
