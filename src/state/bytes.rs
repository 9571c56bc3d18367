//! A state as bytes: a header in JSON that says what there is, then all arrays one after another, little-endian.
//!
//! ```text
//! "ndoptim\n"   u64 length of the header   header   the arrays, in the order of the header
//! ```
use super::{Data, ElementType, StateDict, serial};
use crate::error::Error;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"ndoptim\n";

/// What stands for an array in the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    pub element: ElementType,
    pub shape: Vec<usize>,
}

impl Described {
    pub fn new(data: &Data<'_>) -> Self {
        Described { element: data.element(), shape: data.shape().to_vec() }
    }
}

pub(super) fn wrong(problem: impl ToString) -> Error {
    Error::StateFormat { problem: problem.to_string() }
}

impl StateDict<Data<'_>> {
    /// The state as bytes: about as many as its arrays take in memory.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lion, Optimizer, StateDict};
    ///
    /// let mut lion = Optimizer::new(Lion::new(0.1));
    /// lion.update(&mut array![1.0_f32, 2.0], &array![0.1, f32::NAN])?;
    /// let bytes = lion.state_view().to_bytes()?; // nothing is copied but to the bytes
    /// lion.load_state_dict(StateDict::from_bytes(&bytes)?)?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::StateFormat`], if hyper-parameters cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut arrays = Vec::new();
        let described = self.try_map(|_, data| {
            arrays.push(data);
            Ok::<_, Error>(Described::new(data))
        })?;
        let header = serde_json::to_vec(&described).map_err(wrong)?;
        let size: usize = arrays.iter().map(|data| data.bytes()).sum();
        let mut bytes = Vec::with_capacity(16 + header.len() + size);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&header);
        arrays.into_iter().for_each(|data| serial::le_bytes(data, &mut bytes));
        Ok(bytes)
    }
}

impl StateDict {
    /// The state that [`to_bytes`](StateDict::to_bytes) made these bytes of. Whatever the bytes are, memory is in proportion to
    /// their number.
    ///
    /// # Errors
    ///
    /// [`Error::StateFormat`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("the first bytes are others"))?;
        let short = || wrong("the bytes end in the header");
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(wrong)?;
        let (header, mut rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let described: StateDict<Described> = serde_json::from_slice(header).map_err(wrong)?;
        let state = described.try_map(|place, Described { element, shape }| {
            let short = || wrong(format!("the bytes end before an array of `{}` of shape {shape:?}", place.param));
            let length = serial::bytes_of(*element, shape).ok_or_else(short)?;
            let (array, others) = rest.split_at_checked(length).ok_or_else(short)?;
            rest = others;
            serial::from_le_bytes(*element, shape, array).ok_or_else(short)
        })?;
        if rest.is_empty() { Ok(state) } else { Err(wrong(format!("{} bytes are left over", rest.len()))) }
    }
}
