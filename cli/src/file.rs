//! Reading files whose problems are told like those of their contents, and replacing files in one step.

use crate::document::Problem;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// The text of a file.
///
/// # Errors
/// One problem: why it cannot be read, and what to do.
pub(crate) fn read_text(path: &Path) -> Result<String, Vec<Problem>> {
    fs::read_to_string(path).map_err(|error| {
        let kind = error.kind();
        let text = if kind == ErrorKind::NotFound {
            "there is no such file; check the path".to_string()
        } else if kind == ErrorKind::PermissionDenied {
            "you may not read this file; try as root, or change its owner".to_string()
        } else {
            format!("cannot be read: {error}")
        };
        vec![Problem { file: path.display().to_string(), line: 1, key: String::new(), text }]
    })
}

/// Writes a file, or replaces it, so that whoever reads it sees the old or the new content. Durable on return.
///
/// # Errors
/// What the system says; the file is as it was then.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = directory.join(format!(".{name}.{}.partial", std::process::id()));
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(directory)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside)))
}
