//! Checkpoint files: as they are, with corrected checksums, and assembled from arbitrary parts.
use crate::{bounded, subject::use_anywhere};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{Checkpoint, checkpoint::Section};

const MAGIC: &[u8; 8] = b"\x89ndopt\r\n";
const FIXED: usize = 44;

/// The first byte selects how the others are interpreted.
pub fn checkpoint(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    match kind % 4 {
        0 => read(rest),
        1 => read(&repaired(rest.to_vec(), false)),
        2 => read(&repaired(rest.to_vec(), true)),
        _ => {
            if let Ok(file) = made(&mut Unstructured::new(rest)) {
                read(&file);
            }
        }
    }
}

fn read(file: &[u8]) {
    // The documented bound: a small multiple of the size of the file.
    let Ok(mut loaded) = bounded(file.len(), (1000, 20), || Checkpoint::from_bytes(file)) else {
        return;
    };
    assert!(
        loaded.to_bytes().expect("what was loaded can be saved") == file,
        "what was loaded is saved as other bytes"
    );
    let names: Vec<String> = loaded.iter().map(|(name, _)| name.into()).collect();
    for name in &names {
        let (shape, len) = match loaded.get(name).expect("a section of the list") {
            Section::Bytes(bytes) => (vec![bytes.len()], bytes.len()),
            section => (section.shape().to_vec(), section.shape().iter().product()),
        };
        let _ = (loaded.bytes(name).is_ok(), loaded.fixed::<8>(name).is_ok());
        if len < 1000 {
            let (mut f32, mut f64) = (
                ArrayD::<f32>::zeros(IxDyn(&shape)),
                ArrayD::<f64>::zeros(IxDyn(&shape)),
            );
            let restored = [
                loaded.restore([(&**name, f32.view_mut())]).is_ok(),
                loaded.restore([(&**name, f64.view_mut())]).is_ok(),
                loaded.bytes(name).is_ok(),
            ];
            assert_eq!(
                restored.iter().filter(|&&ok| ok).count(),
                1,
                "a section has one kind: {restored:?}"
            );
        }
    }
    for name in &names {
        let mut rest = loaded.clone();
        match rest.take_state(name) {
            Ok(state) => use_anywhere(&state),
            Err(_) => assert!(
                rest.to_bytes().is_ok_and(|bytes| bytes == file),
                "a failed load has taken something"
            ),
        }
    }
    for name in names {
        assert!(
            loaded.take::<f32>(&name).is_ok()
                != (loaded.take::<f64>(&name).is_ok() || loaded.bytes(&name).is_ok())
        );
    }
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = file.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn number<const N: usize>(file: &[u8], at: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(N)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |n, &byte| n << 8 | u64::from(byte)),
    )
}

/// The same with correct checksums, and with `lengths` also with the correct length of the file, so
/// that a reader gets past the header.
fn repaired(mut file: Vec<u8>, lengths: bool) -> Vec<u8> {
    if file.len() < FIXED {
        return file;
    }
    let found = file.len();
    put(&mut file, 0, MAGIC);
    if lengths {
        put(&mut file, 8, &1_u32.to_le_bytes());
        put(&mut file, 24, &(found as u64).to_le_bytes());
        let table = number::<4>(&file, 32).unwrap_or_default() % (found - FIXED + 1) as u64;
        put(&mut file, 32, &(table as u32).to_le_bytes());
    }
    let end = FIXED + number::<4>(&file, 32).unwrap_or_default() as usize;
    let _ = sections(&mut file, end);
    let table = crc32fast::hash(file.get(FIXED..end).unwrap_or_default());
    put(&mut file, 36, &table.to_le_bytes());
    let preamble = crc32fast::hash(&file[..12]);
    put(&mut file, 12, &preamble.to_le_bytes());
    let header = crc32fast::hash(&file[..40]);
    put(&mut file, 40, &header.to_le_bytes());
    file
}

/// Corrects the checksums of the sections, as far as the table can be read.
fn sections(file: &mut [u8], end: usize) -> Option<()> {
    let (mut at, mut data) = (FIXED, end);
    while at < end {
        at += 2 + number::<2>(file, at)? as usize;
        at += 2 + 8 * number::<1>(file, at + 1)? as usize;
        let next = data.checked_add(number::<8>(file, at)? as usize)?;
        let sum = crc32fast::hash(file.get(data..next)?);
        put(file, at + 8, &sum.to_le_bytes());
        (at, data) = (at + 12, next);
    }
    Some(())
}

/// A file of complete entries, whose lengths and shapes may be wrong.
fn made(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for _ in 0..u.int_in_range(0..=5)? {
        let name: String = if bool::arbitrary(u)? {
            String::arbitrary(u)?
        } else {
            "a".into()
        };
        let kind: u8 = u.int_in_range(0..=3)?;
        let mut shape = Vec::new();
        for _ in 0..if u.ratio(1, 20)? {
            u8::arbitrary(u)?
        } else {
            u.int_in_range(0..=4)?
        } {
            shape.push(if u.ratio(1, 8)? {
                u64::arbitrary(u)?
            } else {
                u.int_in_range(0..=3)?
            });
        }
        let size = shape
            .iter()
            .fold([1, 4, 8, 8][usize::from(kind)], |size: u64, &n| {
                size.wrapping_mul(n)
            });
        let bytes = if u.ratio(1, 6)? {
            u64::arbitrary(u)?
        } else {
            size
        };
        let length = if u.ratio(1, 30)? {
            u16::arbitrary(u)?
        } else {
            name.len() as u16
        };
        table.extend(length.to_le_bytes());
        table.extend(name.as_bytes());
        table.extend([kind, shape.len() as u8]);
        shape.iter().for_each(|n| table.extend(n.to_le_bytes()));
        table.extend(bytes.to_le_bytes());
        table.extend([0; 4]);
        let fill = u8::arbitrary(u)?;
        data.extend((0..bytes.min(3000)).map(|i| fill.wrapping_mul(i as u8)));
    }
    let mut file = vec![0; FIXED];
    put(&mut file, 8, &1_u32.to_le_bytes());
    put(&mut file, 16, &u64::arbitrary(u)?.to_le_bytes());
    put(
        &mut file,
        24,
        &((FIXED + table.len() + data.len()) as u64).to_le_bytes(),
    );
    put(&mut file, 32, &(table.len() as u32).to_le_bytes());
    file.extend(table);
    file.extend(data);
    Ok(repaired(file, false))
}
