//! Errors: any, with their causes.

/// Any error. `?` makes one of everything that implements `std::error::Error`; `bail!` and `ensure!` make one of a text.
pub type Error = anyhow::Error;

/// The result of an action, and of a job.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A text of the host's, for the user as it stands.
pub(crate) fn told(text: String) -> Error {
    Error::msg(text)
}
