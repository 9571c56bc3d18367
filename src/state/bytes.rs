//! The binary format of a state: a header in JSON that describes the arrays, then the arrays
//! themselves, little-endian.
//!
//! ```text
//! "ndoptim\n"   u64 length of the header   header   the arrays, in the order of the header
//! ```
use super::{Data, ElementType, StateDict, serial};
use crate::error::Error;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"ndoptim\n";

/// The description of an array in the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    pub element: ElementType,
    pub shape: Vec<usize>,
}

impl Described {
    pub fn new(data: &Data<'_>) -> Self {
        Described {
            element: data.element(),
            shape: data.shape().to_vec(),
        }
    }
}

pub(super) fn wrong(problem: impl ToString) -> Error {
    Error::StateFormat {
        problem: problem.to_string(),
    }
}

impl StateDict<Data<'_>> {
    /// Encodes the state as bytes: about as many as its arrays take up in memory.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Lion, Optimizer, StateDict};
    ///
    /// let mut lion = Optimizer::new(Lion::new(0.1));
    /// lion.update(&mut array![1.0_f32, 2.0], &array![0.1, f32::NAN])?;
    /// let bytes = lion.state_view().to_bytes()?; // the only copy
    /// lion.load_state_dict(StateDict::from_bytes(&bytes)?)?;
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::StateFormat`] if the hyper-parameters cannot be serialized.
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
        arrays
            .into_iter()
            .for_each(|data| serial::le_bytes(data, &mut bytes));
        Ok(bytes)
    }
}

impl StateDict {
    /// Decodes the bytes of [`to_bytes`](StateDict::to_bytes). Memory use is proportional to the
    /// number of bytes, whatever they contain.
    ///
    /// # Errors
    ///
    /// [`Error::StateFormat`] if the bytes do not encode a state.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| wrong("it does not begin with `ndoptim`"))?;
        let short = || wrong("it ends within the header");
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(wrong)?;
        let (header, mut rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let described: StateDict<Described> = serde_json::from_slice(header).map_err(wrong)?;
        let state = described.try_map(|place, Described { element, shape }| {
            let short = || {
                wrong(format!(
                    "it ends before the end of array `{place}` of shape {shape:?}"
                ))
            };
            let length = serial::bytes_of(*element, shape).ok_or_else(short)?;
            let (array, others) = rest.split_at_checked(length).ok_or_else(short)?;
            rest = others;
            serial::from_le_bytes(*element, shape, array).ok_or_else(short)
        })?;
        if rest.is_empty() {
            Ok(state)
        } else {
            Err(wrong(format!("it has {} trailing bytes", rest.len())))
        }
    }
}
