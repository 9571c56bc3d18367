//! Where the elements of named arrays are in a flat vector: sorted by name, each array in row-major
//! order.
use crate::{
    array::{Element, monomorphize},
    error::Error,
    params::or_unnamed,
};
use ndarray::{ArrayViewD, ArrayViewMutD};
use std::borrow::Cow;

#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Sorted by name.
    entries: Vec<Entry>,
    /// Which entries a pass has found.
    seen: Vec<bool>,
    len: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    /// The index of its first element.
    start: usize,
    len: usize,
}

impl Entry {
    /// The array in a vector.
    pub fn view<'a, A>(&self, flat: &'a [A]) -> Option<ArrayViewD<'a, A>> {
        let flat = flat.get(self.start..self.start + self.len)?;
        ArrayViewD::from_shape(&*self.shape, flat).ok()
    }

    pub fn view_mut<'a, A>(&self, flat: &'a mut [A]) -> Option<ArrayViewMutD<'a, A>> {
        let flat = flat.get_mut(self.start..self.start + self.len)?;
        ArrayViewMutD::from_shape(&*self.shape, flat).ok()
    }
}

/// The arrays of a model as they are found.
#[derive(Default)]
pub(super) struct Found(Vec<(String, Vec<usize>)>);

impl Found {
    pub fn add(&mut self, name: Cow<'_, str>, shape: &[usize]) {
        self.0.push((or_unnamed(name).into_owned(), shape.to_vec()));
    }

    /// # Errors
    ///
    /// [`Error::DuplicateParameter`].
    pub fn finish(mut self) -> Result<Layout, Error> {
        self.0.sort();
        if let Some(pair) = self.0.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let name = pair[0].0.clone();
            return Err(Error::DuplicateParameter { name });
        }
        let mut start = 0;
        let entry = |(name, shape): (String, Vec<usize>)| {
            let len = shape.iter().product();
            start += len;
            Entry {
                name,
                shape,
                start: start - len,
                len,
            }
        };
        let entries: Vec<_> = self.0.into_iter().map(entry).collect();
        Ok(Layout {
            seen: vec![false; entries.len()],
            entries,
            len: start,
        })
    }
}

/// What a set of arrays is, for errors.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Role {
    Model,
    Gradient,
}

impl Layout {
    /// Number of elements of all arrays.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The name of the array with this element.
    pub fn name_at(&self, index: usize) -> &str {
        let after = self.entries.partition_point(|entry| entry.start <= index);
        // Of several with this start, all but the last are empty.
        let entry = after.checked_sub(1).and_then(|at| self.entries.get(at));
        entry.map_or("", |entry| &entry.name)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = or_unnamed(name.into());
        let order = |entry: &Entry| (*entry.name).cmp(&name);
        self.entries.binary_search_by(order).ok()
    }

    /// Begins to read a set of arrays.
    pub fn pass(&mut self, role: Role) -> Pass<'_> {
        self.seen.fill(false);
        Pass {
            layout: self,
            role,
            error: None,
        }
    }

    /// Writes the elements of an array of the model.
    pub fn write<A: Element>(&self, name: &str, view: ArrayViewMutD<'_, A>, flat: &[A]) {
        let layout = self;
        monomorphize!(
            A, <'l, 'n, 'v, 'f>,
            (layout: &'l Layout, name: &'n str, view: ArrayViewMutD<'v, A>, flat: &'f [A]) -> () {
                let mut view = view;
                if let Some(at) = layout.find(name)
                    && let Some(from) = layout.entries[at].view(flat)
                    && from.shape() == view.shape()
                {
                    view.assign(&from);
                }
            }
        );
    }
}

/// Reads each array of a set into a flat vector.
pub(super) struct Pass<'l> {
    layout: &'l mut Layout,
    role: Role,
    error: Option<Error>,
}

impl Pass<'_> {
    pub fn read<A: Element>(&mut self, name: &str, view: ArrayViewD<'_, A>, flat: &mut [A]) {
        if self.error.is_none()
            && let Err(error) = self.try_read(name, view, flat)
        {
            self.error = Some(error);
        }
    }

    fn try_read<A: Element>(
        &mut self,
        name: &str,
        view: ArrayViewD<'_, A>,
        flat: &mut [A],
    ) -> Result<(), Error> {
        let Pass { layout, role, .. } = self;
        let role = *role;
        monomorphize!(
            A, <'l, 'n, 'v, 'f>,
            (
                layout: &'l mut Layout,
                role: Role,
                name: &'n str,
                view: ArrayViewD<'v, A>,
                flat: &'f mut [A]
            ) -> Result<(), Error> {
                let entry = layout.expect(name, view.shape(), role)?;
                if let Some(mut to) = entry.view_mut(flat) {
                    to.assign(&view);
                }
                Ok(())
            }
        )
    }

    /// # Errors
    ///
    /// The first error of the pass, or that an array is missing.
    pub fn finish(self) -> Result<(), Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.layout.seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(at) => {
                let name = self.layout.entries[at].name.clone();
                Err(match self.role {
                    Role::Model => Error::MissingParameter { name },
                    Role::Gradient => Error::MissingGradient { name },
                })
            }
        }
    }
}

impl Layout {
    /// The entry of an array that has this name and shape and has not come yet.
    fn expect(&mut self, name: &str, shape: &[usize], role: Role) -> Result<&Entry, Error> {
        let given = || or_unnamed(name.into()).into_owned();
        let Some(at) = self.find(name) else {
            return Err(Error::UnknownParameter { name: given() });
        };
        if std::mem::replace(&mut self.seen[at], true) {
            return Err(Error::DuplicateParameter { name: given() });
        }
        let entry = &self.entries[at];
        if entry.shape == shape {
            return Ok(entry);
        }
        let (name, known, shape) = (given(), entry.shape.clone(), shape.to_vec());
        Err(match role {
            Role::Model => Error::ShapeChanged {
                name,
                known,
                given: shape,
            },
            Role::Gradient => Error::GradientShape {
                name,
                param: known,
                grad: shape,
            },
        })
    }
}
