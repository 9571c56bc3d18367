//! Checkpoints: files with everything that a run needs to resume, and directories of them.
//!
//! A [`Checkpoint`] is a step number and named sections of bytes or arrays of `f32` or `f64`.
//! [`Checkpoints`] is a directory with the latest few. Writing is atomic: after a crash or a power
//! loss, the last saved checkpoint is still there.
//!
//! ```
//! use ndarray::{Array2, array};
//! use ndarray_optim::{Checkpoint, Checkpoints};
//! # let dir = format!("ndarray-optim-checkpoint-{}", std::process::id());
//! # let dir = std::env::temp_dir().join(dir);
//!
//! let weight = array![[1.0, 2.0], [3.0, 4.0]];
//! let position = 7_u64; // of the data loader
//!
//! let checkpoints = Checkpoints::open(&dir, 3)?;
//! let checkpoint = Checkpoint::new(42)
//!     .section("weight", &weight)
//!     .section("loader", position.to_le_bytes());
//! checkpoints.save(&checkpoint)?;
//!
//! // After a crash, in a new process:
//! let mut weight = Array2::zeros((2, 2));
//! if let Some(latest) = checkpoints.latest()? {
//!     let checkpoint = latest.checkpoint;
//!     checkpoint.restore([("weight", weight.view_mut().into_dyn())])?;
//!     assert_eq!(u64::from_le_bytes(checkpoint.fixed("loader")?), 7);
//!     assert_eq!((checkpoint.step(), weight[[1, 1]]), (42, 4.0));
//! }
//! # std::fs::remove_dir_all(dir).unwrap();
//! # Ok::<(), ndarray_optim::CheckpointError>(())
//! ```

mod directory;
mod error;
mod format;
#[cfg(feature = "serde")]
mod state;

pub use directory::{Checkpoints, Latest};
pub use error::{CheckpointError, Problem};
pub use format::VERSION as FORMAT_VERSION;

use crate::array::{Data, Element, ElementType};
use ndarray::{
    Array, ArrayBase, ArrayD, ArrayView, ArrayViewD, ArrayViewMutD, CowArray, Dimension, OwnedRepr,
    RawData, ViewRepr,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// A step number and named sections of bytes and arrays.
///
/// A checkpoint that is about to be saved borrows its contents. One that has been loaded owns them,
/// and all of its checksums have been verified.
#[derive(Clone)]
pub struct Checkpoint<'a> {
    step: u64,
    /// By position: in the order of the file, also after some have been removed.
    sections: BTreeMap<usize, (Cow<'a, str>, Section<'a>)>,
    /// The position of the first section of each name.
    by_name: HashMap<Cow<'a, str>, usize>,
    /// The file that it was loaded from, for errors.
    path: Option<PathBuf>,
}

/// The contents of a section. Byte strings and arrays, owned or borrowed, convert into it with
/// `From`.
#[derive(Clone)]
#[non_exhaustive]
pub enum Section<'a> {
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// An array of `f32` or `f64`.
    Array(Data<'a>),
}

/// The kind of a [`Section`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Bytes.
    Bytes,
    /// An array with elements of this type.
    Array(ElementType),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Bytes => f.write_str("bytes"),
            Kind::Array(element) => write!(f, "an array of {element}"),
        }
    }
}

impl Section<'_> {
    /// Returns the kind of the section.
    pub fn kind(&self) -> Kind {
        match self {
            Section::Bytes(_) => Kind::Bytes,
            Section::Array(array) => Kind::Array(array.element()),
        }
    }

    /// Returns the shape of an array; empty for bytes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Section::Bytes(_) => &[],
            Section::Array(array) => array.shape(),
        }
    }

    /// Returns the size of the contents in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Section::Bytes(bytes) => bytes.len(),
            Section::Array(array) => array.bytes(),
        }
    }
}

impl fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Section::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            _ => write!(f, "{} {:?}", self.kind(), self.shape()),
        }
    }
}

impl fmt::Debug for Checkpoint<'_> {
    /// Omits the contents, which can be gigabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("step", &self.step)
            .field("sections", &self.sections.values())
            .field("path", &self.path)
            .finish()
    }
}

impl<'a> From<&'a [u8]> for Section<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Section::Bytes(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Section<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Section::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Section<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Section::Bytes(Cow::Owned(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for Section<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Section::Bytes(Cow::Owned(bytes.into()))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Section<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Section::Bytes(Cow::Borrowed(bytes))
    }
}

impl<'a> From<Data<'a>> for Section<'a> {
    fn from(array: Data<'a>) -> Self {
        Section::Array(array)
    }
}

impl<'a, A: Element, S: ndarray::Data + RawData<Elem = A>, D: Dimension> From<&'a ArrayBase<S, D>>
    for Section<'a>
{
    fn from(array: &'a ArrayBase<S, D>) -> Self {
        Section::from(array.view())
    }
}

impl<'a, A: Element, D: Dimension> From<ArrayBase<ViewRepr<&'a A>, D>> for Section<'a> {
    fn from(array: ArrayView<'a, A, D>) -> Self {
        Section::Array(array.into_dyn().into())
    }
}

impl<A: Element, D: Dimension> From<ArrayBase<OwnedRepr<A>, D>> for Section<'_> {
    fn from(array: Array<A, D>) -> Self {
        Section::Array(array.into_dyn().into())
    }
}

impl<'a> Checkpoint<'a> {
    /// Creates a checkpoint of a step, without sections.
    pub fn new(step: u64) -> Self {
        Checkpoint {
            step,
            sections: BTreeMap::new(),
            by_name: HashMap::new(),
            path: None,
        }
    }

    /// Adds a section with bytes or an array of any layout, borrowed where possible. Duplicate
    /// names are detected when the checkpoint is saved.
    #[must_use]
    pub fn section(
        mut self,
        name: impl Into<Cow<'a, str>>,
        contents: impl Into<Section<'a>>,
    ) -> Self {
        let (name, contents) = (name.into(), contents.into());
        let at = self.sections.last_key_value().map_or(0, |(&at, _)| at + 1);
        self.by_name.entry(name.clone()).or_insert(at);
        self.sections.insert(at, (name, contents));
        self
    }

    /// Adds a section for each of several named arrays, such as the
    /// [`views`](crate::NamedArrays::views) of a model.
    #[must_use]
    pub fn arrays<A: Element>(
        self,
        arrays: impl IntoIterator<Item = (impl Into<Cow<'a, str>>, ArrayViewD<'a, A>)>,
    ) -> Self {
        let add = |checkpoint: Self, (name, array)| checkpoint.section(name, array);
        arrays.into_iter().fold(self, add)
    }

    /// Returns the step number.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Returns the file that the checkpoint was loaded from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the section with this name.
    pub fn get(&self, name: &str) -> Option<&Section<'a>> {
        let (_, section) = self.sections.get(self.by_name.get(name)?)?;
        Some(section)
    }

    /// Iterates over the names and sections, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Section<'a>)> {
        self.sections
            .values()
            .map(|(name, section)| (&**name, section))
    }

    /// Returns the bytes of a section.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingSection`], or [`Problem::OtherKind`] if the section is an array.
    pub fn bytes(&self, name: &str) -> Result<&[u8], CheckpointError> {
        match self.find(name)? {
            Section::Bytes(bytes) => Ok(bytes),
            Section::Array(_) => Err(self.other_kind(name, Kind::Bytes)),
        }
    }

    /// Returns the bytes of a section of exactly `N` bytes, such as a counter or a seed.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::bytes`], and [`Problem::OtherLength`].
    pub fn fixed<const N: usize>(&self, name: &str) -> Result<[u8; N], CheckpointError> {
        let bytes = self.bytes(name)?;
        bytes.try_into().map_err(|_| {
            self.wrong(Problem::OtherLength {
                name: name.into(),
                expected: N,
                found: bytes.len(),
            })
        })
    }

    /// Returns the array of a section.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingSection`], or [`Problem::OtherKind`] if the section is not an array of
    /// `A`.
    pub fn array<A: Element>(&self, name: &str) -> Result<ArrayViewD<'_, A>, CheckpointError> {
        match self.find(name)? {
            Section::Array(array) => array.view(),
            Section::Bytes(_) => None,
        }
        .ok_or_else(|| self.other_kind(name, Kind::Array(A::TYPE)))
    }

    /// Removes a section and returns its array. A loaded array is moved, not copied.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::array`]; in that case, nothing is removed.
    pub fn take<A: Element>(&mut self, name: &str) -> Result<ArrayD<A>, CheckpointError> {
        self.array::<A>(name)?;
        match self.remove(name) {
            Some(Section::Array(array)) => array.into_array().map(CowArray::into_owned),
            _ => None,
        }
        .ok_or_else(|| self.missing(name))
    }

    /// Removes the first section with this name.
    fn remove(&mut self, name: &str) -> Option<Section<'a>> {
        let (name, at) = self.by_name.remove_entry(name)?;
        let (_, section) = self.sections.remove(&at)?;
        // A checkpoint that was not loaded can have a second one.
        if self.sections.len() > self.by_name.len()
            && let Some((&at, _)) = self.sections.iter().find(|(_, (other, _))| *other == name)
        {
            self.by_name.insert(name, at);
        }
        Some(section)
    }

    /// Copies sections into arrays of the same shapes and any layout, such as the
    /// [`views_mut`](crate::NamedArraysMut::views_mut) of a model.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::array`], and [`Problem::OtherShape`]. All names and shapes are checked
    /// before the first array changes.
    pub fn restore<'v, A: Element>(
        &self,
        arrays: impl IntoIterator<Item = (impl AsRef<str>, ArrayViewMutD<'v, A>)>,
    ) -> Result<(), CheckpointError> {
        let pairs = arrays.into_iter().map(|(name, into)| {
            let name = name.as_ref();
            let from = self.array::<A>(name)?;
            if from.shape() == into.shape() {
                return Ok((from, into));
            }
            let (expected, found) = (into.shape().to_vec(), from.shape().to_vec());
            Err(self.wrong(Problem::OtherShape {
                name: name.into(),
                expected,
                found,
            }))
        });
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        pairs
            .into_iter()
            .for_each(|(from, mut into)| into.assign(&from));
        Ok(())
    }

    /// Encodes the checkpoint as the bytes of a file.
    ///
    /// # Errors
    ///
    /// [`Problem::DuplicateSection`] or [`Problem::Limit`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let mut out = io::Cursor::new(Vec::new());
        match format::write(self, &mut out) {
            Ok(()) => Ok(out.into_inner()),
            Err(problem) => Err(self.wrong(problem)),
        }
    }

    /// Saves the checkpoint to a file. The write is atomic: the file appears under its name, or
    /// replaces an existing one, once all of it is on disk.
    ///
    /// On Unix, an existing file keeps its mode, and its owner and group if this user may set them.
    /// If `path` is a link, the file that it names is replaced. Temporary files that earlier saves
    /// to `path` have left, because their processes were killed, are removed.
    ///
    /// # Errors
    ///
    /// [`Problem::NotAFile`] if `path` is a directory, device or pipe,
    /// [`Problem::DuplicateSection`], [`Problem::Limit`] or [`Problem::Io`]. An existing file is
    /// then unchanged, unless only the last operation failed, which flushes the rename to disk.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let path = path.as_ref();
        directory::save(self, path).map_err(|problem| problem.at(path))
    }

    fn find(&self, name: &str) -> Result<&Section<'a>, CheckpointError> {
        self.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> CheckpointError {
        let known = self.iter().map(|(known, _)| known.into()).collect();
        self.wrong(Problem::MissingSection {
            name: name.into(),
            known,
        })
    }

    fn other_kind(&self, name: &str, expected: Kind) -> CheckpointError {
        let other = |section: &Section<'_>| Problem::OtherKind {
            name: name.into(),
            expected,
            found: section.kind(),
        };
        self.get(name)
            .map_or_else(|| self.missing(name), |section| self.wrong(other(section)))
    }

    /// Makes an error about this checkpoint.
    fn wrong(&self, problem: Problem) -> CheckpointError {
        CheckpointError {
            path: self.path.clone(),
            problem,
        }
    }
}

impl Checkpoint<'static> {
    /// Loads a file and verifies all of its checksums.
    ///
    /// Lengths in the file are not trusted until they have been compared with the length of the
    /// file: memory use is a small multiple of the latter.
    ///
    /// # Errors
    ///
    /// The first error in the order of the file: [`Problem::NotAFile`], [`Problem::Io`],
    /// [`Problem::Foreign`], [`Problem::HeaderChecksum`], [`Problem::Future`],
    /// [`Problem::Truncated`], [`Problem::TooLong`], [`Problem::Malformed`],
    /// [`Problem::DuplicateSection`], [`Problem::SectionChecksum`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        // Checked before the file is opened, because opening a pipe waits for a writer.
        let load = || match fs::metadata(path)?.is_file() {
            true => {
                let file = fs::File::open(path)?;
                let found = file.metadata()?.len();
                format::read(file, found)
            }
            false => Err(Problem::NotAFile),
        };
        load()
            .map(|loaded| Checkpoint {
                path: Some(path.into()),
                ..loaded
            })
            .map_err(|problem| problem.at(path))
    }

    /// Decodes the bytes of a file: see [`Checkpoint::load`].
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        format::read(bytes, bytes.len() as u64).map_err(Problem::in_memory)
    }
}
