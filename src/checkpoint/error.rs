use super::Kind;
use std::{fmt, io, path::PathBuf};
use thiserror::Error;

/// An error about a checkpoint or a directory of checkpoints.
#[derive(Debug, Error)]
#[error("{}: {problem}", Place(path))]
#[non_exhaustive]
pub struct CheckpointError {
    /// The file or the directory; `None` for a checkpoint that was not loaded from a file.
    pub path: Option<PathBuf>,
    /// What is wrong.
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

/// What is wrong with a checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is not a checkpoint.
    #[error("not a checkpoint file: the magic bytes at the start do not match")]
    Foreign,
    /// The file was written by a newer version of this crate.
    #[error("unsupported format version {version}: this program reads versions up to {supported}")]
    Future {
        /// Format version of the file.
        version: u32,
        /// The latest version that can be read.
        supported: u32,
    },
    /// The end of the file is missing.
    #[error("truncated: {found} bytes, expected at least {expected}")]
    Truncated {
        /// The length that the file should have, as far as it is known.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// There are trailing bytes after the end of the checkpoint.
    #[error("damaged: {found} bytes, expected {expected}")]
    TooLong {
        /// The length that the file should have.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// The checksum of the header or of the table of sections does not match.
    #[error("damaged: the checksum of the header does not match")]
    HeaderChecksum,
    /// The checksum of a section does not match.
    #[error("damaged: the checksum of section `{name}` does not match")]
    SectionChecksum {
        /// Name of the section.
        name: String,
    },
    /// The header is invalid although its checksum matches: no version of this crate has written
    /// it.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Two sections have the same name.
    #[error("there are two sections `{name}`")]
    DuplicateSection {
        /// Name of the sections.
        name: String,
    },
    /// The checkpoint exceeds a limit of the format.
    #[error("cannot be written: {0}")]
    Limit(&'static str),
    /// No section has this name.
    #[error("no section named `{name}`, known sections: {known:?}")]
    MissingSection {
        /// The name that was looked up.
        name: String,
        /// The names of all sections.
        known: Vec<String>,
    },
    /// A section does not have the requested kind of contents.
    #[error("section `{name}` holds {found}, not {expected}")]
    OtherKind {
        /// Name of the section.
        name: String,
        /// The requested kind.
        expected: Kind,
        /// The kind of the section.
        found: Kind,
    },
    /// An array does not have the shape of the array that it should be copied into.
    #[error("section `{name}` has shape {found:?}, expected {expected:?}")]
    OtherShape {
        /// Name of the section.
        name: String,
        /// Shape of the destination.
        expected: Vec<usize>,
        /// Shape of the array in the checkpoint.
        found: Vec<usize>,
    },
    /// A section does not have the requested number of bytes.
    #[error("section `{name}` has {found} bytes, expected {expected}")]
    OtherLength {
        /// Name of the section.
        name: String,
        /// The requested number of bytes.
        expected: usize,
        /// The number of bytes of the section.
        found: usize,
    },
    /// A section is not the state of an optimizer, or the state cannot be saved as one.
    #[error("section `{name}` is not the state of an optimizer: {problem}")]
    State {
        /// Name of the section.
        name: String,
        /// The reason.
        problem: String,
    },
    /// The path is a directory, a device, a pipe or a socket.
    #[error("not a file")]
    NotAFile,
    /// An I/O error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Problem {
    pub(super) fn at(self, path: impl Into<PathBuf>) -> CheckpointError {
        CheckpointError {
            path: Some(path.into()),
            problem: self,
        }
    }

    pub(super) fn in_memory(self) -> CheckpointError {
        CheckpointError {
            path: None,
            problem: self,
        }
    }
}
