//! What a visitor reads when nothing healthy is left: one calm page, and the headers that make search
//! engines wait instead of forgetting the site.
//!
//! **Invariant.** The page needs nothing but itself: no script, no font, no picture, no other host. What the
//! operator writes is text and can never become markup.

use stead_proto::limits::TEXT_BYTES_MAX;

/// How long visitors and search engines are asked to wait, if nothing else is said, in seconds.
pub const RETRY_AFTER_S: u32 = 120;

/// What the page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The heading and the window's title; cut after [`TEXT_BYTES_MAX`] bytes.
    pub title: String,
    /// One paragraph; cut after [`TEXT_BYTES_MAX`] bytes.
    pub message: String,
    /// For the `Retry-After` header, in seconds.
    pub retry_after_s: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            title: "We will be right back".into(),
            message:
                "This site cannot be shown at the moment. The fault is on our side, it has been noticed, and \
                      the site is being brought back. Please try again in a few minutes."
                    .into(),
            retry_after_s: RETRY_AFTER_S,
        }
    }
}

/// The page as it goes over the wire.
#[derive(Debug)]
pub(super) struct Answer {
    head: Vec<u8>,
    whole: Vec<u8>,
}

impl Answer {
    pub(super) fn new(page: &Page) -> Self {
        let html = html(page);
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\n\
             Retry-After: {}\r\n\
             Cache-Control: no-store\r\n\
             Content-Type: text/html; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             Connection: close\r\n\
             \r\n",
            page.retry_after_s,
            html.len(),
        )
        .into_bytes();
        let whole = [head.as_slice(), html.as_bytes()].concat();
        Self { head, whole }
    }

    /// For GET and whatever else a client may send.
    pub(super) fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// For HEAD (RFC 9110 §9.3.2): the same without the page.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }
}

fn html(page: &Page) -> String {
    let (title, message) = (escape(&page.title), escape(&page.message));
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: #fafaf8; color: #222;
  font: 1.125rem/1.6 system-ui, sans-serif; }}
main {{ max-width: 34rem; padding: 2rem; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.75rem; line-height: 1.25; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #16181b; color: #e6e6e3; }} }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{message}</p>
</main>
</body>
</html>
"#
    )
}

fn escape(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_writes_is_text() {
        let title = "<script>alert('x')</script> & \"co\"\n".into();
        let html = html(&Page { title, message: "é".repeat(1_000), ..Page::default() });
        assert!(
            html.contains("<h1>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;co&quot; </h1>")
        );
        assert!(html.contains(&format!("<p>{}</p>", "é".repeat(150))));
        assert!(!html.contains("<script"));
    }

    #[test]
    fn the_page_loads_nothing_from_anywhere() {
        let html = html(&Page::default());
        for word in ["http:", "https:", "//", "src=", "href=", "url(", "@import"] {
            assert!(!html.contains(word), "{word}");
        }
    }
}
