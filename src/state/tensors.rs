//! States in safetensors files.
use super::{Data, ElementType, StateDict, bytes::Described, bytes::wrong, serial};
use crate::{array::Element, error::Error};
use ndarray::ArrayViewD;
use safetensors::{Dtype, SafeTensors, View};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

/// The metadata key of everything that is not an array.
const KEY: &str = "ndarray-optim";

fn dtype(element: ElementType) -> Dtype {
    match element {
        ElementType::F32 => Dtype::F32,
        ElementType::F64 => Dtype::F64,
    }
}

impl View for Data<'_> {
    fn dtype(&self) -> Dtype {
        dtype(self.element())
    }
    fn shape(&self) -> &[usize] {
        Data::shape(self)
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        serial::le_bytes(self, &mut bytes);
        bytes.into()
    }
    fn data_len(&self) -> usize {
        self.bytes()
    }
}

impl StateDict<Data<'_>> {
    /// Encodes the state as a safetensors file, which Python can read.
    ///
    /// Each array is a tensor `PARAMETER.ARRAY`, such as `weight.exp_avg`, and the rest is JSON in
    /// the metadata under `ndarray-optim`. The mean gradients of an unfinished round of
    /// accumulation are tensors `PARAMETER.mean_grad`.
    ///
    /// # Errors
    ///
    /// [`Error::StateFormat`] if two tensors would have the same name.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        self.to_safetensors_with::<f64, &str>([])
    }

    /// Encodes the state and the parameters as one safetensors file.
    ///
    /// It is the file of [`to_safetensors`](StateDict::to_safetensors) with the parameters as
    /// additional tensors under their own names.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_optim::{Adam, Optimizer, StateDict};
    ///
    /// let (mut adam, mut theta) = (Optimizer::new(Adam::new(0.1)), array![1.0, 2.0]);
    /// adam.update(&mut theta, &array![0.1, 0.2])?;
    /// let file = adam.state_dict().to_safetensors_with([("variable", theta.view().into_dyn())])?;
    ///
    /// let (state, params) = StateDict::from_safetensors(&file)?;
    /// assert_eq!(state, adam.state_dict());
    /// assert_eq!(params["variable"].view(), Some(theta.view().into_dyn()));
    /// # Ok::<(), ndarray_optim::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`to_safetensors`](StateDict::to_safetensors).
    pub fn to_safetensors_with<'a, A: Element, S: Into<String>>(
        &self,
        params: impl IntoIterator<Item = (S, ArrayViewD<'a, A>)>,
    ) -> Result<Vec<u8>, Error> {
        let params: Vec<(String, Data<'_>)> = params
            .into_iter()
            .map(|(name, param)| (name.into(), param.into()))
            .collect();
        let mut tensors: Vec<_> = params
            .iter()
            .map(|(name, data)| (name.clone(), data.borrow()))
            .collect();
        let described = self.try_map(|place, data| {
            tensors.push((place.to_string(), data.borrow()));
            Ok::<_, Error>(Described::new(data))
        })?;
        let mut names = HashSet::new();
        if let Some((name, _)) = tensors
            .iter()
            .find(|(name, _)| name == "__metadata__" || !names.insert(name))
        {
            return Err(wrong(format!("two tensors would have the name `{name}`")));
        }
        let text = serde_json::to_string(&described).map_err(wrong)?;
        safetensors::serialize(tensors, Some(HashMap::from([(KEY.into(), text)]))).map_err(wrong)
    }
}

impl StateDict {
    /// Decodes a safetensors file into a state and all other `f32` and `f64` tensors by name.
    /// Memory use is proportional to the number of bytes, whatever they contain.
    ///
    /// # Errors
    ///
    /// [`Error::StateFormat`] if the bytes are not a safetensors file with a state.
    pub fn from_safetensors(
        bytes: &[u8],
    ) -> Result<(Self, BTreeMap<String, Data<'static>>), Error> {
        let file = SafeTensors::deserialize(bytes).map_err(wrong)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|texts| texts.get(KEY));
        let text = text.ok_or_else(|| wrong(format!("the metadata has no key `{KEY}`")))?;
        let described: StateDict<Described> = serde_json::from_str(text).map_err(wrong)?;
        let mut used = HashSet::new();
        let state = described.try_map(|place, Described { element, shape }| {
            let name = place.to_string();
            let tensor = file.tensor(&name).map_err(wrong)?;
            if tensor.dtype() != dtype(*element) || tensor.shape() != &shape[..] {
                let (found, given) = (tensor.dtype(), tensor.shape());
                return Err(wrong(format!(
                    "tensor `{name}` is {found} {given:?}, expected {element} {shape:?}"
                )));
            }
            let data = serial::from_le_bytes(*element, shape, tensor.data());
            if !used.insert(name.clone()) {
                return Err(wrong(format!("tensor `{name}` is referenced twice")));
            }
            data.ok_or_else(|| wrong(format!("tensor `{name}` has the wrong number of bytes")))
        })?;
        let mut others = BTreeMap::new();
        for (name, tensor) in file
            .tensors()
            .into_iter()
            .filter(|(name, _)| !used.contains(name))
        {
            let element = match tensor.dtype() {
                Dtype::F32 => ElementType::F32,
                Dtype::F64 => ElementType::F64,
                _ => continue,
            };
            if let Some(data) = serial::from_le_bytes(element, tensor.shape(), tensor.data()) {
                others.insert(name, data);
            }
        }
        Ok((state, others))
    }
}
