//! The two forms of the answer to `GET /metrics`, and which of them a scraper asked for.

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which every scraper understands.
    PlainText,
}

impl Exposition {
    /// What the header `Accept` asks for: the form with the greater weight, OpenMetrics when both
    /// weigh the same. A header that names neither gets plain text.
    pub fn asked_for(accept: &str) -> Self {
        let weight = |wanted: &str| {
            let weights = accept.split(',').filter_map(|range| weight_of(range, wanted));
            weights.fold(None, |most: Option<f32>, weight| Some(most.map_or(weight, |most| most.max(weight))))
        };
        match (weight("application/openmetrics-text"), weight("text/plain")) {
            (Some(open), plain) if open > 0.0 && open >= plain.unwrap_or(0.0) => Self::OpenMetrics,
            _ => Self::PlainText,
        }
    }

    /// The header `Content-Type` of this form.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PlainText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The weight that one item of an `Accept` header gives to a media type, if it names it.
fn weight_of(range: &str, wanted: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    // A weight that cannot be read is no reason to refuse.
    Some(quality.and_then(|text| text.parse().ok()).unwrap_or(1.0))
}

/// OpenMetrics as plain text: counters carry `_total` in their description too, and what plain text
/// does not know is left out.
pub(super) fn plain_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // The help of a metric comes before its type, which decides the name.
    let mut help: Option<&str> = None;
    for line in open_metrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        match comment.split_once(' ') {
            Some(("HELP", rest)) => help = Some(rest),
            Some(("TYPE", rest)) => describe(&mut text, help.take(), rest),
            // `UNIT` and `EOF`.
            _ => {}
        }
    }
    text
}

fn describe(text: &mut String, help: Option<&str>, name_and_type: &str) {
    let (name, kind) = name_and_type.split_once(' ').unwrap_or((name_and_type, "untyped"));
    let total = if kind == "counter" { "_total" } else { "" };
    let kind = if kind == "unknown" { "untyped" } else { kind };
    if let Some((_, words)) = help.and_then(|help| help.split_once(' ')) {
        text.push_str(&format!("# HELP {name}{total} {words}\n"));
    }
    text.push_str(&format!("# TYPE {name}{total} {kind}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_with_the_greater_weight_is_given_and_plain_text_to_whoever_names_none() {
        use Exposition::{OpenMetrics, PlainText};
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (prometheus, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0, text/plain", OpenMetrics),
            ("text/plain", PlainText),
            ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.1", PlainText),
            ("application/openmetrics-text;q=0", PlainText),
            ("text/html, */*;q=0.8", PlainText),
            ("", PlainText),
        ] {
            assert_eq!(Exposition::asked_for(accept), expected, "{accept}");
        }
    }

    #[test]
    fn counters_are_described_by_the_name_they_are_sampled_by() {
        let open = "# HELP a_seconds Time.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n\
                    # HELP b Some.\n# TYPE b counter\nb_total{c=\"# TYPE\"} 2\n# EOF\n";
        let plain = "# HELP a_seconds Time.\n# TYPE a_seconds gauge\na_seconds 1\n\
                     # HELP b_total Some.\n# TYPE b_total counter\nb_total{c=\"# TYPE\"} 2\n";
        assert_eq!(plain_text(open), plain);
    }
}
