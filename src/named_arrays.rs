//! Sets of named arrays: a model, its gradient, averages of it.
use ndarray::{
    ArrayBase, ArrayRef, ArrayView0, ArrayViewD, ArrayViewMut0, ArrayViewMutD, Data, DataMut,
    Dimension,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    slice,
};

/// A set of named arrays with elements `A`.
///
/// The same type usually holds the parameters of a model, their gradients and averages of them.
/// What takes a model takes any such set: [`Optimizer::step_with`](crate::Optimizer::step_with),
/// [`Evaluating`](crate::Evaluating), checkpoints and safetensors files.
///
/// | type | names |
/// |---|---|
/// | a struct, by [`named_arrays!`](crate::named_arrays) | its fields |
/// | a tuple of up to 8 sets, [`Vec`] | `0`, `1`, ... |
/// | [`BTreeMap`], [`HashMap`] | its keys |
/// | [`Option`] | those of its contents; none if it is `None` |
/// | an array or view of ndarray, a number | the empty name |
///
/// In a set of sets, names are joined by a dot: field `bias` of field `output` has the name
/// `output.bias`.
///
/// A number is an array without axes, so a struct of `f64` is a set too. A `Vec` of numbers has a
/// name for each of them: use an array instead.
///
/// ```
/// use ndarray::{Array1, Array2, array};
/// use ndarray_optim::{Adam, NamedArrays, NamedArraysMut, Optimizer, named_arrays};
///
/// #[derive(Clone)]
/// struct Model {
///     weight: Array2<f64>,
///     bias: Array1<f64>,
///     threads: usize,
/// }
///
/// named_arrays!(impl NamedArrays<f64> for Model { weight, bias });
///
/// let mut model = Model {
///     weight: array![[1.0, 2.0]],
///     bias: array![3.0],
///     threads: 1,
/// };
/// let mut grads = model.clone();
/// grads.fill_all(0.5);
/// Optimizer::new(Adam::new(0.1)).step_with(&mut model, &grads)?;
///
/// let names: Vec<_> = model.views().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["weight", "bias"]);
/// # Ok::<(), ndarray_optim::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of named arrays of `{A}`",
    note = "for a struct of arrays: `named_arrays!(impl NamedArrays<f64> for {Self} {{ fields }})`"
)]
pub trait NamedArrays<A> {
    /// Calls `visit` with the name and a view of each array, always in the same order.
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>));

    /// Returns the name and a view of each array.
    fn views(&self) -> Vec<(Cow<'_, str>, ArrayViewD<'_, A>)> {
        let mut views = Vec::new();
        self.visit(&mut |name, view| views.push((name, view)));
        views
    }
}

/// [`NamedArrays`] that can be changed.
pub trait NamedArraysMut<A>: NamedArrays<A> {
    /// Calls `visit` with the name and a view of each array, in the order of
    /// [`visit`](NamedArrays::visit).
    fn visit_mut<'a>(&'a mut self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>));

    /// Returns the name and a view of each array.
    fn views_mut(&mut self) -> Vec<(Cow<'_, str>, ArrayViewMutD<'_, A>)> {
        let mut views = Vec::new();
        self.visit_mut(&mut |name, view| views.push((name, view)));
        views
    }

    /// Sets all elements of all arrays, for example gradients to zero.
    fn fill_all(&mut self, value: A)
    where
        A: Clone,
    {
        self.visit_mut(&mut |_, mut view| view.fill(value.clone()));
    }
}

/// Implements [`NamedArrays`] and [`NamedArraysMut`] for a struct, by the names of its fields.
///
/// Fields are arrays, numbers or sets of arrays. Fields that are not listed are no part of the set.
///
/// ```
/// use ndarray::{Array1, Array2};
/// use ndarray_optim::{NamedArrays, named_arrays};
///
/// struct Layer<A> {
///     weight: Array2<A>,
///     bias: Array1<A>,
/// }
/// named_arrays!(impl<A> NamedArrays<A> for Layer<A> { weight, bias });
///
/// struct Network {
///     hidden: Vec<Layer<f32>>,
///     output: Layer<f32>,
///     scale: f32,
/// }
/// named_arrays!(impl NamedArrays<f32> for Network { hidden, output, scale });
///
/// let layer = || Layer { weight: Array2::zeros((2, 2)), bias: Array1::zeros(2) };
/// let network = Network { hidden: vec![layer()], output: layer(), scale: 1.0 };
/// let names: Vec<_> = network.views().into_iter().map(|(name, _)| name).collect();
/// let expected = ["hidden.0.weight", "hidden.0.bias", "output.weight", "output.bias", "scale"];
/// assert_eq!(names, expected);
/// ```
#[macro_export]
macro_rules! named_arrays {
    (impl<$a:ident> NamedArrays<$element:ident> for $name:ty { $($field:ident),* $(,)? }) => {
        $crate::named_arrays!(@ [<$a: $crate::algorithm::Element>] $element, $name, $($field)*);
    };
    (impl NamedArrays<$element:ident> for $name:ty { $($field:ident),* $(,)? }) => {
        $crate::named_arrays!(@ [] $element, $name, $($field)*);
    };
    (@ [$($generics:tt)*] $element:ident, $name:ty, $($field:ident)*) => {
        impl $($generics)* $crate::NamedArrays<$element> for $name {
            fn visit<'a>(
                &'a self,
                visit: &mut dyn ::core::ops::FnMut(
                    ::std::borrow::Cow<'a, str>,
                    $crate::ndarray::ArrayViewD<'a, $element>,
                ),
            ) {
                $($crate::visit_named(::core::stringify!($field), &self.$field, visit);)*
            }
        }

        impl $($generics)* $crate::NamedArraysMut<$element> for $name {
            fn visit_mut<'a>(
                &'a mut self,
                visit: &mut dyn ::core::ops::FnMut(
                    ::std::borrow::Cow<'a, str>,
                    $crate::ndarray::ArrayViewMutD<'a, $element>,
                ),
            ) {
                $($crate::visit_named_mut(::core::stringify!($field), &mut self.$field, visit);)*
            }
        }
    };
}

/// The name of an array in a set that is a member of another.
fn joined<'a>(
    outer: &str,
    inner: Cow<'a, str>,
    alone: impl FnOnce() -> Cow<'a, str>,
) -> Cow<'a, str> {
    if inner.is_empty() {
        alone()
    } else {
        Cow::Owned(format!("{outer}.{inner}"))
    }
}

/// Visits the arrays of the member `name` of a set.
#[doc(hidden)]
pub fn visit_named<'a, A>(
    name: &'a str,
    member: &'a (impl NamedArrays<A> + ?Sized),
    visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>),
) {
    member.visit(&mut |inner, view| visit(joined(name, inner, || name.into()), view));
}

/// As [`visit_named`], for arrays that can be changed.
#[doc(hidden)]
pub fn visit_named_mut<'a, A>(
    name: &'a str,
    member: &'a mut (impl NamedArraysMut<A> + ?Sized),
    visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>),
) {
    member.visit_mut(&mut |inner, view| visit(joined(name, inner, || name.into()), view));
}

impl<A, S: Data<Elem = A>, D: Dimension> NamedArrays<A> for ArrayBase<S, D> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
        visit("".into(), self.view().into_dyn());
    }
}

impl<A, S: DataMut<Elem = A>, D: Dimension> NamedArraysMut<A> for ArrayBase<S, D> {
    fn visit_mut<'a>(&'a mut self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>)) {
        visit("".into(), self.view_mut().into_dyn());
    }
}

impl<A, D: Dimension> NamedArrays<A> for ArrayRef<A, D> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
        visit("".into(), self.view().into_dyn());
    }
}

impl<A, D: Dimension> NamedArraysMut<A> for ArrayRef<A, D> {
    fn visit_mut<'a>(&'a mut self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>)) {
        visit("".into(), self.view_mut().into_dyn());
    }
}

impl<A, T: NamedArrays<A> + ?Sized> NamedArrays<A> for &T {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
        (**self).visit(visit);
    }
}

impl<A, T: NamedArrays<A> + ?Sized> NamedArrays<A> for &mut T {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
        (**self).visit(visit);
    }
}

impl<A, T: NamedArraysMut<A> + ?Sized> NamedArraysMut<A> for &mut T {
    fn visit_mut<'a>(&'a mut self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>)) {
        (**self).visit_mut(visit);
    }
}

impl<A, T: NamedArrays<A>> NamedArrays<A> for Option<T> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
        if let Some(set) = self {
            set.visit(visit);
        }
    }
}

impl<A, T: NamedArraysMut<A>> NamedArraysMut<A> for Option<T> {
    fn visit_mut<'a>(&'a mut self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>)) {
        if let Some(set) = self {
            set.visit_mut(visit);
        }
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl NamedArrays<$number> for $number {
            fn visit<'a>(
                &'a self,
                visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, $number>),
            ) {
                // One element is enough for an array without axes.
                if let Ok(view) = ArrayView0::from_shape((), slice::from_ref(self)) {
                    visit("".into(), view.into_dyn());
                }
            }
        }

        impl NamedArraysMut<$number> for $number {
            fn visit_mut<'a>(
                &'a mut self,
                visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, $number>),
            ) {
                if let Ok(view) = ArrayViewMut0::from_shape((), slice::from_mut(self)) {
                    visit("".into(), view.into_dyn());
                }
            }
        }
    )*};
}

numbers!(f32, f64);

macro_rules! tuples {
    ($($set:ident $index:tt),*) => {
        impl<A, $($set: NamedArrays<A>),*> NamedArrays<A> for ($($set,)*) {
            fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
                $(visit_named(stringify!($index), &self.$index, visit);)*
            }
        }

        impl<A, $($set: NamedArraysMut<A>),*> NamedArraysMut<A> for ($($set,)*) {
            fn visit_mut<'a>(
                &'a mut self,
                visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>),
            ) {
                $(visit_named_mut(stringify!($index), &mut self.$index, visit);)*
            }
        }
    };
}

tuples!(T0 0);
tuples!(T0 0, T1 1);
tuples!(T0 0, T1 1, T2 2);
tuples!(T0 0, T1 1, T2 2, T3 3);
tuples!(T0 0, T1 1, T2 2, T3 3, T4 4);
tuples!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5);
tuples!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6);
tuples!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7);

impl<A, T: NamedArrays<A>> NamedArrays<A> for Vec<T> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
        for (index, set) in self.iter().enumerate() {
            let name = index.to_string();
            set.visit(&mut |inner, view| {
                visit(joined(&name, inner, || name.clone().into()), view);
            });
        }
    }
}

impl<A, T: NamedArraysMut<A>> NamedArraysMut<A> for Vec<T> {
    fn visit_mut<'a>(&'a mut self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>)) {
        for (index, set) in self.iter_mut().enumerate() {
            let name = index.to_string();
            set.visit_mut(&mut |inner, view| {
                visit(joined(&name, inner, || name.clone().into()), view);
            });
        }
    }
}

macro_rules! maps {
    ([$($generics:tt)*] $map:ty) => {
        impl<A, K: AsRef<str>, T: NamedArrays<A>, $($generics)*> NamedArrays<A> for $map {
            fn visit<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewD<'a, A>)) {
                for (name, set) in self {
                    visit_named(name.as_ref(), set, visit);
                }
            }
        }

        impl<A, K: AsRef<str>, T: NamedArraysMut<A>, $($generics)*> NamedArraysMut<A> for $map {
            fn visit_mut<'a>(
                &'a mut self,
                visit: &mut dyn FnMut(Cow<'a, str>, ArrayViewMutD<'a, A>),
            ) {
                for (name, set) in self {
                    visit_named_mut(name.as_ref(), set, visit);
                }
            }
        }
    };
}

maps!([] BTreeMap<K, T>);
maps!([S] HashMap<K, T, S>);
