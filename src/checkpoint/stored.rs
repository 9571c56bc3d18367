//! The number types that checkpoints have arrays of.
use super::{Kind, Section};
use ndarray::{ArrayViewD, CowArray, IxDyn};

/// `f32` or `f64`: what a checkpoint can hold arrays of.
pub trait Scalar: Stored {}
impl<A: Stored> Scalar for A {}

/// Not public, so that there are no others.
pub trait Stored: Copy + Default + 'static {
    const KIND: Kind;
    /// Little-endian, into as many bytes as there are.
    fn encode(values: &[Self], bytes: &mut [u8]);
    /// The reverse, appended.
    fn decode(bytes: &[u8], values: &mut Vec<Self>);
    fn section(array: CowArray<'_, Self, IxDyn>) -> Section<'_>;
    fn view<'s>(section: &'s Section<'_>) -> Option<ArrayViewD<'s, Self>>;
    fn view_owned(section: Section<'_>) -> Option<CowArray<'_, Self, IxDyn>>;
}

macro_rules! stored {
    ($($float:ident $kind:ident),*) => {$(
        impl Stored for $float {
            const KIND: Kind = Kind::$kind;

            fn encode(values: &[$float], bytes: &mut [u8]) {
                let (chunks, _) = bytes.as_chunks_mut();
                chunks.iter_mut().zip(values).for_each(|(chunk, value)| *chunk = value.to_le_bytes());
            }

            fn decode(bytes: &[u8], values: &mut Vec<$float>) {
                let (chunks, _) = bytes.as_chunks();
                values.extend(chunks.iter().map(|chunk| $float::from_le_bytes(*chunk)));
            }

            fn section(array: CowArray<'_, $float, IxDyn>) -> Section<'_> {
                Section::$kind(array)
            }

            fn view<'s>(section: &'s Section<'_>) -> Option<ArrayViewD<'s, $float>> {
                match section {
                    Section::$kind(array) => Some(array.view()),
                    _ => None,
                }
            }

            fn view_owned(section: Section<'_>) -> Option<CowArray<'_, $float, IxDyn>> {
                match section {
                    Section::$kind(array) => Some(array),
                    _ => None,
                }
            }
        }
    )*};
}
stored!(f32 F32, f64 F64);
