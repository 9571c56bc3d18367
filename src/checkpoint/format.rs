//! The file format of checkpoints, as specified in `docs/checkpoints.md`.
use super::{Checkpoint, Kind, Problem, Section};
use crate::array::{Data, Element, ElementType, either, try_row_major};
use crc32fast::Hasher;
use ndarray::{ArrayD, IxDyn};
use std::{
    borrow::Cow,
    collections::HashSet,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
};

/// Distinct from text, from other known formats, and from itself after a transfer that translates
/// line ends.
const MAGIC: [u8; 8] = *b"\x89ndopt\r\n";
/// The format version that is written, and the latest that can be read.
pub const VERSION: u32 = 1;
/// Length of the magic bytes, the version and their checksum, which are the same in every version.
const PREAMBLE: usize = 16;
/// Length of everything before the table of sections.
const FIXED: usize = 44;
/// Size of the blocks that are converted, checksummed and copied, so that they stay in the L2 cache
/// in between. A multiple of all element sizes.
const BLOCK: usize = 1 << 17;

const fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Bytes => 0,
        Kind::Array(ElementType::F32) => 1,
        Kind::Array(ElementType::F64) => 2,
    }
}

/// An entry of the table of sections.
struct Entry {
    name: String,
    kind: Kind,
    shape: Vec<usize>,
    bytes: usize,
    sum: u32,
}

// Writing.

/// Builds the header and the table, given the checksums of the sections.
fn header(checkpoint: &Checkpoint<'_>, sums: &[u32]) -> Result<Vec<u8>, Problem> {
    let mut table = Vec::new();
    let mut data: u64 = 0;
    let mut names = HashSet::new();
    for ((name, section), sum) in checkpoint.iter().zip(sums) {
        if !names.insert(name) {
            return Err(Problem::DuplicateSection { name: name.into() });
        }
        let length = u16::try_from(name.len())
            .map_err(|_| Problem::Limit("a section's name has more than 65535 bytes"))?;
        let axes = u8::try_from(section.shape().len())
            .map_err(|_| Problem::Limit("an array has more than 255 axes"))?;
        table.extend(length.to_le_bytes());
        table.extend(name.as_bytes());
        table.extend([code(section.kind()), axes]);
        section
            .shape()
            .iter()
            .for_each(|&n| table.extend((n as u64).to_le_bytes()));
        table.extend((section.bytes() as u64).to_le_bytes());
        table.extend(sum.to_le_bytes());
        data += section.bytes() as u64;
    }
    let length = u32::try_from(table.len())
        .map_err(|_| Problem::Limit("the table of sections has more than 4 GiB"))?;
    let mut header = Vec::with_capacity(FIXED + table.len());
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    header.extend(checkpoint.step().to_le_bytes());
    header.extend((FIXED as u64 + u64::from(length) + data).to_le_bytes());
    header.extend(length.to_le_bytes());
    header.extend(crc32fast::hash(&table).to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    header.append(&mut table);
    Ok(header)
}

/// Writes a checkpoint. The header comes last, so that an unfinished file begins with zeros and is
/// not taken for a checkpoint.
pub fn write<W: Write + Seek>(checkpoint: &Checkpoint<'_>, out: W) -> Result<(), Problem> {
    // The checksums are known only after the data has been written, but they do not change the
    // length of the header.
    let mut sums = vec![0; checkpoint.iter().len()];
    let blank = vec![0; header(checkpoint, &sums)?.len()];
    // Small sections are buffered, whole blocks bypass the buffer.
    let mut out = BufWriter::with_capacity(BLOCK, out);
    out.write_all(&blank)?;
    let mut block = Vec::new();
    for ((_, section), sum) in checkpoint.iter().zip(&mut sums) {
        let mut sink = Sink {
            out: &mut out,
            block: &mut block,
            hasher: Hasher::new(),
        };
        match section {
            Section::Bytes(bytes) => bytes.chunks(BLOCK).try_for_each(|chunk| sink.pass(chunk))?,
            Section::Array(array) => either!(array, array => {
                try_row_major(array.view(), &mut |slice| sink.slice(slice))
            })?,
        }
        *sum = sink.hasher.finalize();
    }
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&header(checkpoint, &sums)?)?;
    out.flush()?;
    Ok(())
}

/// Writes the bytes of one section and computes their checksum.
struct Sink<'a, W> {
    out: &'a mut W,
    block: &'a mut Vec<u8>,
    hasher: Hasher,
}

impl<W: Write> Sink<'_, W> {
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn slice<A: Element>(&mut self, slice: &[A]) -> io::Result<()> {
        for values in slice.chunks(BLOCK / size_of::<A>()) {
            self.block.resize(size_of_val(values), 0);
            A::encode(values, self.block);
            self.hasher.update(self.block);
            self.out.write_all(self.block)?;
        }
        Ok(())
    }
}

// Reading.

/// Reads and checks the header and the table of a file of `found` bytes; the sections follow.
fn read_header(input: &mut impl Read, found: u64) -> Result<(u64, Vec<Entry>), Problem> {
    let mut fixed = [0; FIXED];
    let there = fixed
        .len()
        .min(usize::try_from(found).unwrap_or(usize::MAX));
    input.read_exact(&mut fixed[..there])?;
    let same = there.min(MAGIC.len());
    if fixed[..same] != MAGIC[..same] {
        return Err(Problem::Foreign);
    }
    let short = Problem::Truncated {
        expected: FIXED as u64,
        found,
    };
    if there < PREAMBLE {
        return Err(short);
    }
    // Check before use: this covers the version too.
    if crc32fast::hash(&fixed[..12]) != u32_at(&fixed, 12) {
        return Err(Problem::HeaderChecksum);
    }
    let version = u32_at(&fixed, 8);
    if version > VERSION {
        return Err(Problem::Future {
            version,
            supported: VERSION,
        });
    }
    if version == 0 {
        return Err(Problem::Malformed("the format version is 0"));
    }
    if there < FIXED {
        return Err(short);
    }
    if crc32fast::hash(&fixed[..40]) != u32_at(&fixed, 40) {
        return Err(Problem::HeaderChecksum);
    }
    let (step, expected, length, sum) = (
        u64_at(&fixed, 16),
        u64_at(&fixed, 24),
        u32_at(&fixed, 32),
        u32_at(&fixed, 36),
    );
    if found < expected {
        return Err(Problem::Truncated { expected, found });
    }
    if found > expected {
        return Err(Problem::TooLong { expected, found });
    }
    let after = (found - FIXED as u64)
        .checked_sub(length.into())
        .ok_or(Problem::Malformed(
            "the table of sections is longer than the file",
        ))?;
    let mut table = room(length.into())?;
    input.take(length.into()).read_to_end(&mut table)?;
    if crc32fast::hash(&table) != sum {
        return Err(Problem::HeaderChecksum);
    }
    let entries = entries(&table)?;
    let data = entries
        .iter()
        .try_fold(0_u64, |sum, entry| sum.checked_add(entry.bytes as u64));
    if data != Some(after) {
        return Err(Problem::Malformed("the sections do not fill the file"));
    }
    Ok((step, entries))
}

/// Whether a file has a valid header and the length that the header states.
pub fn looks_whole(mut input: impl Read, found: u64) -> bool {
    read_header(&mut input, found).is_ok()
}

fn entries(table: &[u8]) -> Result<Vec<Entry>, Problem> {
    let mut rest = table;
    let mut entries: Vec<Entry> = Vec::new();
    while !rest.is_empty() {
        let length = u16::from_le_bytes(next(&mut rest)?);
        let (name, tail) = rest.split_at_checked(length.into()).ok_or(CUT)?;
        rest = tail;
        let name = str::from_utf8(name)
            .map_err(|_| Problem::Malformed("the name of a section is not UTF-8"))?
            .to_owned();
        let [kind, axes] = next(&mut rest)?;
        let kinds = [
            Kind::Bytes,
            Kind::Array(ElementType::F32),
            Kind::Array(ElementType::F64),
        ];
        let kind = kinds.into_iter().find(|&known| code(known) == kind);
        let kind = kind.ok_or(Problem::Malformed(
            "a section is neither bytes nor an array of f32 or f64",
        ))?;
        let shape = (0..axes)
            .map(|_| size(u64::from_le_bytes(next(&mut rest)?)))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = size(u64::from_le_bytes(next(&mut rest)?))?;
        let sum = u32::from_le_bytes(next(&mut rest)?);
        let right = match kind {
            Kind::Bytes => shape.is_empty(),
            Kind::Array(element) => {
                shape
                    .iter()
                    .try_fold(element.size(), |n, &axis| n.checked_mul(axis))
                    == Some(bytes)
            }
        };
        if !right {
            return Err(Problem::Malformed(
                "the length of a section does not match its shape",
            ));
        }
        entries.push(Entry {
            name,
            kind,
            shape,
            bytes,
            sum,
        });
    }
    let mut names = HashSet::with_capacity(entries.len());
    match entries.iter().find(|entry| !names.insert(&entry.name)) {
        Some(Entry { name, .. }) => Err(Problem::DuplicateSection { name: name.clone() }),
        None => Ok(entries),
    }
}

/// Reads and checks a checkpoint of `found` bytes. No allocation is larger than that.
pub fn read(mut input: impl Read, found: u64) -> Result<Checkpoint<'static>, Problem> {
    let (step, entries) = read_header(&mut input, found)?;
    let block = entries
        .iter()
        .map(|entry| entry.bytes)
        .max()
        .unwrap_or(0)
        .min(BLOCK);
    // Small sections are read together; most of a block bypasses the buffer.
    let gather = (BLOCK / 16).min(usize::try_from(found).unwrap_or(BLOCK));
    let mut source = Source {
        input: BufReader::with_capacity(gather, input),
        block: vec![0; block],
    };
    let mut checkpoint = Checkpoint::new(step);
    for Entry {
        name,
        kind,
        shape,
        bytes,
        sum,
    } in entries
    {
        let (section, found) = match kind {
            Kind::Bytes => {
                let mut data = room(bytes as u64)?;
                let sum = source.blocks(bytes, |block| data.extend_from_slice(block))?;
                (Section::Bytes(Cow::Owned(data)), sum)
            }
            Kind::Array(ElementType::F32) => source.array::<f32>(shape, bytes)?,
            Kind::Array(ElementType::F64) => source.array::<f64>(shape, bytes)?,
        };
        if found != sum {
            return Err(Problem::SectionChecksum { name });
        }
        checkpoint = checkpoint.section(name, section);
    }
    Ok(checkpoint)
}

/// Reads the bytes of the sections.
struct Source<R> {
    input: BufReader<R>,
    block: Vec<u8>,
}

impl<R: Read> Source<R> {
    /// Reads the next bytes and returns their checksum.
    fn blocks(&mut self, mut bytes: usize, mut each: impl FnMut(&[u8])) -> Result<u32, Problem> {
        let mut hasher = Hasher::new();
        while bytes > 0 {
            let n = bytes.min(self.block.len());
            let block = &mut self.block[..n];
            self.input.read_exact(block)?;
            hasher.update(block);
            each(block);
            bytes -= n;
        }
        Ok(hasher.finalize())
    }

    fn array<A: Element>(
        &mut self,
        shape: Vec<usize>,
        bytes: usize,
    ) -> Result<(Section<'static>, u32), Problem> {
        let mut data = room((bytes / size_of::<A>()) as u64)?;
        let sum = self.blocks(bytes, |block| A::decode(block, &mut data))?;
        let array = ArrayD::from_shape_vec(IxDyn(&shape), data);
        let array = array.map_err(|_| Problem::Malformed("an array has an invalid shape"))?;
        Ok((Section::Array(Data::from(array)), sum))
    }
}

/// Allocates an empty vector with room for `n` elements; an error if there is not enough memory.
fn room<T>(n: u64) -> Result<Vec<T>, Problem> {
    let mut room = Vec::new();
    room.try_reserve_exact(size(n)?)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    Ok(room)
}

fn size(n: u64) -> Result<usize, Problem> {
    usize::try_from(n).map_err(|_| Problem::Malformed("a size is too large for this machine"))
}

const CUT: Problem = Problem::Malformed("the table of sections ends within an entry");

fn next<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Problem> {
    let (first, tail) = rest.split_first_chunk().ok_or(CUT)?;
    *rest = tail;
    Ok(*first)
}

fn u32_at(fixed: &[u8; FIXED], at: usize) -> u32 {
    fixed[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(fixed: &[u8; FIXED], at: usize) -> u64 {
    fixed[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
