//! Recognises file systems that other machines share.

use std::path::Path;

/// The network file system that holds `path`, by name; none for a disk of this machine, and where it cannot be told. A path that
/// does not exist yet is looked for in its folder.
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    let existing = path.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty());
    magic(existing.unwrap_or(Path::new("."))).and_then(name)
}

/// The number by which the kernel names a file system.
#[cfg(target_os = "linux")]
fn magic(path: &Path) -> Option<u32> {
    // Kernels return it as a signed number on some machines.
    rustix::fs::statfs(path).ok().map(|found| found.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn magic(_: &Path) -> Option<u32> {
    None
}

/// Numbers of `statfs(2)` and of the file systems' own headers. FUSE may be anything: sshfs and cloud mounts are common.
const fn name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "CIFS",
        0x0bd0_0bd0 => "Lustre",
        0x00c3_6400 => "CephFS",
        0x1983_0326 => "BeeGFS",
        0x4750_4653 => "GPFS",
        0xaad7_aaea => "PanFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x0102_1997 => "9P",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_file_systems_are_named_and_local_ones_are_not() {
        for (magic, want) in [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "CIFS"), (0x0bd0_0bd0, "Lustre")] {
            assert_eq!(name(magic), Some(want));
        }
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(name(local), None, "{local:x}");
        }
    }

    #[test]
    fn a_file_that_does_not_exist_yet_is_looked_for_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let known = network_file_system(folder.path());
        assert_eq!(network_file_system(&folder.path().join("a/b/store.sqlite")), known);
        assert_eq!(network_file_system(Path::new("")), network_file_system(Path::new(".")));
    }
}
