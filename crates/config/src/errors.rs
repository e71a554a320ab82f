//! Implements, of the arrow `what the user wrote -> what it means`: what is wrong, and where, drawn as a compiler would.
//!
//! Never: shows a value that came from the environment; the drawn line holds only what stands in the file.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::limits;
use crate::source::{At, Excerpt, Sources, masked};

/// Everything that is wrong with a configuration, in the order of the files; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The findings that are shown, at most [`limits::FINDINGS_MAX`].
    pub errors: Vec<ConfigError>,
    /// How many more there are.
    pub left_out: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named by the user.
    pub file: String,
    /// The line, 1 for the first; 0 when the file could not be read.
    pub line: usize,
    /// The column in characters, 1 for the first; 0 when the file could not be read.
    pub column: usize,
    /// The field, such as `pipelines.orders.destinations[0].s3.bucket`; empty for the whole file.
    pub path: String,
    /// What is wrong, in lowercase without a period.
    pub message: String,
    /// What to do about it, when that is known.
    pub hint: Option<String>,
    /// The key or value is designed, and this version does not have it yet.
    pub not_built: bool,
    /// It is allowed, and probably not meant.
    pub warning: bool,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    excerpt: Excerpt,
    label: String,
    primary: bool,
}

impl ConfigErrors {
    /// The findings as text for a terminal, each with its line drawn; with colours when `color`.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for error in &self.errors {
            text.push_str(&error.render(&renderer));
            text.push_str("\n\n");
        }
        match self.left_out {
            0 => text.truncate(text.trim_end().len()),
            more => text.push_str(&format!("and {more} more")),
        }
        text.push('\n');
        text
    }
}

impl ConfigError {
    fn render(&self, renderer: &Renderer) -> String {
        let title = match (self.line, self.file.as_str()) {
            (0, file) if !file.is_empty() => format!("{}: {}", printable(file), printable(&self.message)),
            _ => printable(&self.message),
        };
        let level = if self.warning { Level::WARNING } else { Level::ERROR };
        let mut group = level.primary_title(title).elements(self.marks.iter().map(Mark::draw));
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(printable(hint)));
        }
        renderer.render(&[group])
    }
}

impl Mark {
    fn draw(&self) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let kind = if self.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let label = (!self.label.is_empty()).then(|| printable(&self.label));
        Snippet::source(self.excerpt.text.as_str())
            .line_start(self.excerpt.line)
            .path(self.excerpt.file.as_str())
            .annotation(kind.span(self.excerpt.span.clone()).label(label))
    }
}

/// Text from a file with its control characters spelled out, so that no finding can steer a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", printable(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", printable(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigErrors {}
impl std::error::Error for ConfigError {}

/// A finding while it is being made.
#[derive(Debug)]
pub(crate) struct Finding {
    at: At,
    path: String,
    message: String,
    label: String,
    hint: Option<String>,
    not_built: bool,
    warning: bool,
    also: Vec<(At, String)>,
}

impl Finding {
    pub(crate) fn new(at: At, path: &str, message: impl Into<String>) -> Self {
        Self {
            at,
            path: path.to_owned(),
            message: message.into(),
            label: String::new(),
            hint: None,
            not_built: false,
            warning: false,
            also: Vec::new(),
        }
    }

    /// The words beside the place.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// A second place that belongs to the finding.
    pub(crate) fn also(mut self, at: At, label: impl Into<String>) -> Self {
        self.also.push((at, label.into()));
        self
    }

    /// The key or value is designed and not built yet.
    pub(crate) fn not_built(mut self) -> Self {
        self.not_built = true;
        self
    }

    pub(crate) fn is_warning(&self) -> bool {
        self.warning
    }

    /// It is allowed, and probably not meant.
    pub(crate) fn warning(mut self) -> Self {
        self.warning = true;
        self
    }

    fn finish(self, sources: &Sources) -> ConfigError {
        let excerpt = sources.excerpt(self.at);
        let (file, line, column) = (excerpt.file.clone(), excerpt.line, excerpt.column);
        let mut marks = vec![Mark { excerpt, label: self.label, primary: true }];
        marks.extend(self.also.into_iter().map(|(at, label)| Mark {
            excerpt: sources.excerpt(at),
            label,
            primary: false,
        }));
        ConfigError {
            file,
            line,
            column,
            path: self.path,
            message: masked(&self.message),
            hint: self.hint,
            not_built: self.not_built,
            warning: self.warning,
            marks,
        }
    }
}

/// The findings of a run in the order of the files, at most [`limits::FINDINGS_MAX`]; `None` when there are none.
pub(crate) fn finish(mut findings: Vec<Finding>, sources: &Sources) -> Option<ConfigErrors> {
    findings.sort_by_key(|f| (f.at.file, f.at.start));
    findings.dedup_by(|a, b| a.at == b.at && a.message == b.message);
    let left_out = findings.len().saturating_sub(limits::FINDINGS_MAX);
    findings.truncate(limits::FINDINGS_MAX);
    let errors: Vec<ConfigError> = findings.into_iter().map(|f| f.finish(sources)).collect();
    (!errors.is_empty()).then_some(ConfigErrors { errors, left_out })
}

/// A file that could not be read, or is not text.
pub(crate) fn unreadable(file: &str, message: impl Into<String>, hint: Option<String>) -> ConfigErrors {
    let error = ConfigError {
        file: file.to_owned(),
        line: 0,
        column: 0,
        path: String::new(),
        message: message.into(),
        hint,
        not_built: false,
        warning: false,
        marks: Vec::new(),
    };
    ConfigErrors { errors: vec![error], left_out: 0 }
}
