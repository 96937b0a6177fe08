//! Why a call could not do what it was asked.

use std::fmt::Display;

#[derive(Debug)]
pub enum Failure {
    /// A text is not UTF-8.
    Utf8(String),
    /// What was given can't be used.
    Invalid(String),
    /// It is no JSON schema.
    InvalidSchema(String),
    /// A JSON schema says what can't be kept to.
    UnsupportedSchema(String),
    /// The machine lacks what it takes; later it may not.
    Unavailable(String),
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Failure::Utf8(reason) => Failure::Utf8(change(reason)),
            Failure::Invalid(reason) => Failure::Invalid(change(reason)),
            Failure::InvalidSchema(reason) => Failure::InvalidSchema(change(reason)),
            Failure::UnsupportedSchema(reason) => Failure::UnsupportedSchema(change(reason)),
            Failure::Unavailable(reason) => Failure::Unavailable(change(reason)),
        }
    }

    pub fn new(reason: impl Display) -> Self {
        Failure::Invalid(reason.to_string())
    }

    /// "`place`: `reason`", for map_err.
    pub fn at<E: Display>(place: &str) -> impl FnOnce(E) -> Self + '_ {
        move |reason| Failure::Invalid(format!("{place}: {reason}"))
    }
}
