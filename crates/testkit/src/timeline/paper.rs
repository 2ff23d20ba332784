//! Elements of a picture, written one after the other.

use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");

/// The elements so far.
#[derive(Debug, Default)]
pub(super) struct Paper {
    elements: String,
}

impl Paper {
    pub(super) fn rect(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        round: f64,
        title: Option<&str>,
    ) {
        let shape = format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round}\""
        );
        self.close("rect", &shape, title);
    }

    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: Option<&str>) {
        self.close(
            "circle",
            &format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\""),
            title,
        );
    }

    pub(super) fn path(&mut self, class: &str, path: &str, title: Option<&str>) {
        self.close("path", &format!("<path class=\"{class}\" d=\"{path}\""), title);
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let shape = format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"");
        self.close("line", &shape, None);
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        self.add(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            attribute(text)
        ));
    }

    pub(super) fn centred(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let text = attribute(text);
        self.add(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    /// The whole picture.
    pub(super) fn finish(self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"kgt\" role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<style>\n{STYLE}</style>\n\
             <rect x=\"0\" y=\"0\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"var(--kgt-paper)\"/>\n{}</svg>\n",
            self.elements
        )
    }

    fn close(&mut self, name: &str, shape: &str, title: Option<&str>) {
        match title {
            None => self.add(&format!("{shape}/>")),
            Some(title) => self.add(&format!("{shape}><title>{}</title></{name}>", attribute(title))),
        }
    }

    fn add(&mut self, element: &str) {
        writeln!(self.elements, "{element}").expect("memory takes it");
    }
}

/// Text as XML and HTML may hold it: what frames say is never markup, and what XML forbids is shown as missing.
pub(super) fn attribute(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_a_frame_says_is_never_markup() {
        assert_eq!(
            attribute("<script>\"a\" & 'b'\u{0}</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}&lt;/script&gt;"
        );
    }
}
