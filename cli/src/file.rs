//! Reading files whose problems are told like those of their contents.

use crate::document::Problem;
use std::fs;
use std::io::ErrorKind;
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
