//! The bytes of the holding page: pure, made once when the page is put up.
//!
//! **Invariant.** The page needs nothing from anywhere else, and no text of the site can become markup.
//!
//! Deliberately absent: a script, an automatic reload (it takes the page away from who still reads it), and
//! words of our own beside the operator's: they would be in one language and he may write another.

use stead_proto::site::HoldingText;

/// Style for light and dark screens; the colours reach a contrast of at least 12:1 in both.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2530;--paper:#fbfaf8;--mark:#b8763a}\
@media(prefers-color-scheme:dark){:root{--ink:#e8e6e1;--paper:#15191e;--mark:#d79a62}}\
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--paper);color:var(--ink);\
font:1.125rem/1.6 system-ui,sans-serif}\
main{max-width:34rem;padding:2rem;overflow-wrap:anywhere}\
h1{margin:0 0 1rem;font-size:1.9rem;line-height:1.25;font-weight:600}\
h1::before{content:'';display:block;width:3rem;height:.25rem;margin-bottom:1.5rem;background:var(--mark)}\
p{margin:0;white-space:pre-line}";

/// One whole answer, ready to be sent.
#[derive(Debug)]
pub(super) struct Page {
    answer: Vec<u8>,
    head_bytes: usize,
}

impl Page {
    /// The answer that says `text`.
    pub(super) fn new(text: &HoldingText) -> Self {
        let body = body(text);
        let mut answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\n\
             Content-Type: text/html; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             Retry-After: {}\r\n\
             Cache-Control: no-store\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\n",
            body.len(),
            text.retry_after_s.max(1),
        )
        .into_bytes();
        let head_bytes = answer.len();
        answer.extend(body.bytes());
        Self { answer, head_bytes }
    }

    /// The answer to GET, POST and all others.
    pub(super) fn whole(&self) -> &[u8] {
        &self.answer
    }

    /// The answer to HEAD (RFC 9110 §9.3.2): the same without the content.
    pub(super) fn head(&self) -> &[u8] {
        self.answer.get(..self.head_bytes).unwrap_or_default()
    }
}

fn body(text: &HoldingText) -> String {
    let default = HoldingText::default();
    // Whose words they are decides their language; of the operator's nothing is known.
    let language = if text.title == default.title && text.message == default.message { "en" } else { "" };
    let (title, message) = (escaped(&text.title), escaped(&text.message));
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1 dir=\"auto\">{title}</h1>\n<p dir=\"auto\">{message}</p>\n</main>\n</body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.trim().chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push('\n'),
            other if other.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(title: &str, message: &str) -> HoldingText {
        HoldingText { title: title.into(), message: message.into(), retry_after_s: 0 }
    }

    #[test]
    fn the_bytes_of_the_page_stay_what_they_are() {
        let page = Page::new(&HoldingText::default());
        let golden = include_str!("page.golden");
        assert_eq!(String::from_utf8_lossy(page.whole()).replace("\r\n", "\n"), golden);
        assert_eq!(
            page.whole().iter().filter(|byte| **byte == b'\r').count(),
            9,
            "header lines end with CRLF"
        );
    }

    #[test]
    fn the_length_is_that_of_the_content_and_head_has_none() {
        let page = Page::new(&said("Größere Wartung", "Kurz weg.\nGleich zurück."));
        let (head, content) = page.whole().split_at(page.head().len());
        let head = std::str::from_utf8(head).unwrap();
        assert!(head.ends_with("\r\n\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", content.len())), "{head}");
        assert!(head.contains("Retry-After: 1\r\n"), "zero would ask for a storm: {head}");
    }

    #[test]
    fn no_text_of_the_site_becomes_markup_or_loads_anything() {
        let page = Page::new(&said("</title><script src=//x>", "\"'&<img src=http://x>\u{1b}[0m"));
        let text = String::from_utf8(page.whole().to_vec()).unwrap();
        assert!(text.contains("<title>&lt;/title&gt;&lt;script src=//x&gt;</title>"));
        assert!(text.contains("&quot;&#39;&amp;&lt;img src=http://x&gt; [0m</p>"));
        for loader in ["<script", "<img", "<link", "url(", "@import", "\u{1b}"] {
            assert!(!text.contains(loader), "{loader:?} in {text}");
        }
    }

    #[test]
    fn only_our_own_words_are_called_english() {
        assert!(body(&HoldingText::default()).contains("<html lang=\"en\">"));
        assert!(body(&said("Kurz weg", "Gleich zurück")).contains("<html lang=\"\">"));
    }
}
