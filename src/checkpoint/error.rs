use super::Kind;
use std::{fmt, io, path::PathBuf};
use thiserror::Error;

/// What is wrong with which checkpoint.
#[derive(Debug, Error)]
#[error("{}: {problem}", Place(path))]
#[non_exhaustive]
pub struct CheckpointError {
    /// The file, or the directory; `None` for a checkpoint that has not come from a file.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub problem: Problem,
}

struct Place<'a>(&'a Option<PathBuf>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => path.display().fmt(f),
            None => f.write_str("checkpoint in memory"),
        }
    }
}

/// What can be wrong with a checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file begins otherwise than every checkpoint does.
    #[error("not a checkpoint file: it does not begin with the bytes that every checkpoint begins with")]
    Foreign,
    /// The file has been written by a later version of this crate.
    #[error("format version {version} is from the future: this program reads versions up to {supported}")]
    Future {
        /// Version of the file.
        version: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// The end of the file is missing.
    #[error("truncated: {found} bytes, expected at least {expected}")]
    Truncated {
        /// Bytes that the file should have, as far as can be told.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// There is something behind the end of the checkpoint.
    #[error("damaged: {found} bytes, expected {expected}")]
    TooLong {
        /// Bytes that the file should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The header or the table of sections does not have its checksum.
    #[error("damaged: the header does not have its checksum")]
    HeaderChecksum,
    /// The bytes of a section do not have their checksum.
    #[error("damaged: section `{name}` does not have its checksum")]
    SectionChecksum {
        /// Name of the section.
        name: String,
    },
    /// The checksum is right and the header makes no sense all the same: no version of this crate has written it.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Two sections have the same name.
    #[error("there are two sections `{name}`")]
    DuplicateSection {
        /// The name.
        name: String,
    },
    /// The format has no room for this.
    #[error("cannot be written: {0}")]
    Limit(&'static str),
    /// There is no section of this name.
    #[error("there is no section `{name}`, only {known:?}")]
    MissingSection {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A section has other contents than was asked for.
    #[error("section `{name}` holds {found}, not {expected}")]
    OtherKind {
        /// Name of the section.
        name: String,
        /// What was asked for.
        expected: Kind,
        /// What it holds.
        found: Kind,
    },
    /// An array has another shape than the one it should be read into.
    #[error("section `{name}` has shape {found:?}, expected {expected:?}")]
    OtherShape {
        /// Name of the section.
        name: String,
        /// Shape of the array to read into.
        expected: Vec<usize>,
        /// Shape of the array in the checkpoint.
        found: Vec<usize>,
    },
    /// A section has another number of bytes than was asked for.
    #[error("section `{name}` has {found} bytes, expected {expected}")]
    OtherLength {
        /// Name of the section.
        name: String,
        /// Bytes that were asked for.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// A section is not what belongs to the state of an optimizer.
    #[error("section `{name}` is not the state of an optimizer: {problem}")]
    State {
        /// Name of the section.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is a directory or a device of this name.
    #[error("not a file")]
    NotAFile,
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Problem {
    pub(super) fn at(self, path: impl Into<PathBuf>) -> CheckpointError {
        CheckpointError { path: Some(path.into()), problem: self }
    }

    pub(super) fn in_memory(self) -> CheckpointError {
        CheckpointError { path: None, problem: self }
    }
}
