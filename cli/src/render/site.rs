//! The versions of the site.

use super::paint::Paint;
use super::table::Table;
use crate::json::SiteVersion;
use crate::words::ago;

/// `stead site show`: the file itself, with where it comes from as a comment.
pub(crate) fn site_show(version: &SiteVersion, now_unix_ms: u64) -> String {
    let when = version.unix_ms.map(|ms| format!(", {}", ago(ms, now_unix_ms))).unwrap_or_default();
    let newest = if version.newest { ", the newest" } else { "" };
    let end = if version.text.ends_with('\n') || version.text.is_empty() { "" } else { "\n" };
    format!("# version {}{newest}, by {}{when}\n{}{end}", version.version, version.by, version.text)
}

/// `stead site history`.
pub(crate) fn site_history(versions: &[SiteVersion], paint: Paint, now_unix_ms: u64) -> String {
    let mut table = Table::new(["version", "by", "when", ""]);
    for version in versions {
        table.row([
            version.version.to_string(),
            version.by.clone(),
            version.unix_ms.map(|ms| ago(ms, now_unix_ms)).unwrap_or_default(),
            if version.newest { "the newest".into() } else { String::new() },
        ]);
    }
    table.render(paint)
}
