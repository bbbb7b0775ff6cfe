//! A small file system in memory, to fill. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
    filler: PathBuf,
}

impl Tmpfs {
    /// Mounts one of a size on a new folder of `directory`.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    #[track_caller]
    pub fn mount(directory: &Path, megabytes: u32) -> Self {
        let path = directory.join("small");
        std::fs::create_dir(&path).expect("a folder to mount on");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(&path)
            .status()
            .expect("mount");
        assert!(status.success(), "a tmpfs cannot be mounted here");
        let filler = path.join("filler");
        Self { path, filler }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file until there is no space left.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&self.filler).expect("a file in the tmpfs");
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![0xa5; size]).is_err() {
                size /= 2;
            }
        }
    }

    /// Takes the file away again.
    pub fn make_room(&self) {
        std::fs::remove_file(&self.filler).expect("the file that fills");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
