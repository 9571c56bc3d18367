//! Files and directories of checkpoints: what is written is read, and what is wrong is said.
#![cfg(feature = "checkpoint")]
use allocation_counter::measure;
use ndarray::{
    Array, Array1, Array2, Array3, ArrayD, ArrayViewD, IxDyn, ShapeBuilder, arr0, array, s,
};
use ndarray_optim::{
    Adafactor, AdamW, Checkpoint, CheckpointError, Checkpoints, Optimizer,
    checkpoint::{FORMAT_VERSION, Kind, Problem, Section},
    state::ElementType,
};
use proptest::prelude::*;
use std::{
    collections::HashSet,
    fs::{self, File},
    io::ErrorKind,
    path::PathBuf,
    thread,
};

/// An empty directory of this name.
fn directory(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("checkpoint-{name}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// The bits of an array, in row-major order.
fn bits(array: ArrayViewD<'_, f32>) -> (Vec<usize>, Vec<u32>) {
    (
        array.shape().to_vec(),
        array.iter().map(|x| x.to_bits()).collect(),
    )
}

/// CRC-32 bit by bit: what the files need, from its definition alone.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

fn small() -> Vec<u8> {
    let weight = array![[1.0_f32, f32::NAN], [-0.0, 4.0]];
    let checkpoint = Checkpoint::new(5)
        .section("w", &weight)
        .section("loader", [1, 2, 3])
        .section("none", Vec::new());
    checkpoint.to_bytes().unwrap()
}

#[test]
fn sections_come_back_in_order_with_every_bit() {
    let bytes = vec![7_u8; 1000];
    // Signalling NaN.
    let odd = Array1::from_shape_fn(100, |i| f64::from_bits(0x7ff0_0000_0000_0001 + i as u64));
    let signs = array![
        f32::from_bits(0x7fa0_1234),
        f32::from_bits(0xffc0_0001),
        -0.0,
        f32::from_bits(1),
        f32::INFINITY
    ];
    let checkpoint = Checkpoint::new(u64::MAX)
        .section("optimizer", &bytes)
        .section("odd", odd.view())
        .section("signs", signs.clone())
        .section(String::from("owned"), 7_u64.to_le_bytes())
        .section("scalar", arr0(2.5_f32))
        .section("empty", Array3::<f64>::zeros((3, 0, 2)))
        .section("", b"");
    let file = directory("sections").join("any name");
    checkpoint.save(&file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), checkpoint.to_bytes().unwrap());
    let mut loaded = Checkpoint::load(&file).unwrap();
    assert_eq!(loaded.to_bytes().unwrap(), checkpoint.to_bytes().unwrap());
    assert_eq!((loaded.step(), loaded.path()), (u64::MAX, Some(&*file)));
    let names: Vec<&str> = loaded.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["optimizer", "odd", "signs", "owned", "scalar", "empty", ""]
    );
    assert_eq!(loaded.bytes("optimizer").unwrap(), bytes);
    assert_eq!(loaded.fixed("owned").map(u64::from_le_bytes).unwrap(), 7);
    let back = loaded.array::<f64>("odd").unwrap();
    assert!(
        back.iter()
            .zip(&odd)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    assert_eq!(
        bits(loaded.array("signs").unwrap()),
        bits(signs.view().into_dyn())
    );
    assert_eq!(loaded.array::<f32>("scalar").unwrap(), arr0(2.5).into_dyn());
    assert_eq!(loaded.array::<f64>("empty").unwrap().shape(), [3, 0, 2]);
    assert!(matches!(loaded.get(""), Some(Section::Bytes(none)) if none.is_empty()));
    assert!(loaded.get("weights").is_none());
    // An array is taken without a copy.
    let before = loaded.array::<f64>("odd").unwrap().as_ptr();
    let taken: ArrayD<f64> = loaded.take("odd").unwrap();
    assert_eq!(taken.as_ptr(), before);
    assert!(matches!(
        loaded.take::<f64>("odd").unwrap_err().problem,
        Problem::MissingSection { .. }
    ));
}

#[test]
fn arrays_of_any_layout_are_written_in_row_major_order_and_read_into_any_layout() {
    // More than one block of the writer, and no whole number of them.
    let c = Array3::from_shape_fn((33, 45, 67), |(i, j, k)| (i * 10_000 + j * 100 + k) as f32);
    let mut f = Array3::zeros((33, 45, 67).f());
    f.assign(&c);
    let wide = Array3::from_shape_fn((66, 45, 70), |(i, j, k)| {
        (i / 2 * 10_000 + j * 100 + k) as f32
    });
    let strided = wide.slice(s![..;2, .., ..67]);
    let mut reversed = c.clone();
    reversed.invert_axis(ndarray::Axis(1));
    let reversed = reversed.as_standard_layout().into_owned();
    let turned = reversed.slice(s![.., ..;-1, ..]);
    let row_major = Checkpoint::new(1).section("a", &c).to_bytes().unwrap();
    for view in [f.view(), strided, turned] {
        assert!(!view.is_standard_layout());
        assert!(Checkpoint::new(1).section("a", view).to_bytes().unwrap() == row_major);
    }
    // Rows longer than what the writer turns at once, and very short ones.
    for shape in [(3, 70_000), (70_000, 3)] {
        let c = Array2::from_shape_fn(shape, |(i, j)| (i * 70_000 + j) as f64);
        let mut f = Array2::zeros(shape.f());
        f.assign(&c);
        let row_major = Checkpoint::new(1).section("a", &c).to_bytes().unwrap();
        assert!(Checkpoint::new(1).section("a", &f).to_bytes().unwrap() == row_major);
        assert!(
            Checkpoint::new(1)
                .section("a", c.slice(s![..;-1, ..]).slice(s![..;-1, ..]))
                .to_bytes()
                .unwrap()
                == row_major
        );
    }
    let line = Array1::from_shape_fn(300_000, |i| i as f32);
    let thirds = Checkpoint::new(1)
        .section("a", line.slice(s![..;-3]))
        .to_bytes()
        .unwrap();
    let loaded = Checkpoint::from_bytes(&thirds).unwrap();
    assert_eq!(
        loaded.array::<f32>("a").unwrap(),
        line.slice(s![..;-3]).into_dyn()
    );
    let broadcast = array![1.0, 2.0];
    let broadcast = Checkpoint::new(1)
        .section("a", broadcast.broadcast((3, 2)).unwrap())
        .to_bytes()
        .unwrap();
    assert!(
        broadcast
            == Checkpoint::new(1)
                .section("a", &array![[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
                .to_bytes()
                .unwrap()
    );
    let loaded = Checkpoint::from_bytes(&row_major).unwrap();
    let mut into_f = Array3::<f32>::zeros((33, 45, 67).f());
    let mut into_wide = Array3::zeros((66, 45, 70));
    let views = [
        ("a", into_f.view_mut().into_dyn()),
        ("a", into_wide.slice_mut(s![..;-2, .., ..67]).into_dyn()),
    ];
    loaded.restore(views).unwrap();
    assert_eq!(into_f, c);
    assert_eq!(into_wide.slice(s![..;-2, .., ..67]), c);
    let many = Array::from_elem(IxDyn(&[1; 20]), 3.0_f64);
    let many = Checkpoint::new(1)
        .section("many axes", &many)
        .to_bytes()
        .unwrap();
    assert_eq!(
        Checkpoint::from_bytes(&many)
            .unwrap()
            .array::<f64>("many axes")
            .unwrap()
            .shape(),
        [1; 20]
    );
}

#[test]
fn nothing_is_restored_unless_all_of_it_fits() {
    let bytes = Checkpoint::new(1)
        .section("a", array![1.0, 2.0])
        .section("b", array![3.0])
        .section("c", b"x");
    let path = directory("fits").join("file");
    bytes.save(&path).unwrap();
    let loaded = Checkpoint::load(&path).unwrap();
    let (mut a, mut b) = (array![0.0, 0.0], array![0.0, 0.0]);
    let mut restore = |name: &str| {
        let error = loaded
            .restore([
                ("a", a.view_mut().into_dyn()),
                (name, b.view_mut().into_dyn()),
            ])
            .unwrap_err();
        assert_eq!((&a, &b), (&array![0.0, 0.0], &array![0.0, 0.0]));
        assert_eq!(error.path.as_ref(), Some(&path));
        let text = error.to_string();
        assert!(text.starts_with(&*path.to_string_lossy()), "{text}");
        text[path.to_string_lossy().len()..].to_owned()
    };
    assert_eq!(restore("b"), ": section `b` has shape [1], expected [2]");
    assert_eq!(
        restore("c"),
        ": section `c` holds bytes, not an array of f64"
    );
    assert_eq!(
        restore("d"),
        ": no section named `d`, known sections: [\"a\", \"b\", \"c\"]"
    );
    let other = loaded.array::<f32>("a").unwrap_err().problem;
    assert!(
        matches!(
            other,
            Problem::OtherKind {
                expected: Kind::Array(ElementType::F32),
                found: Kind::Array(ElementType::F64),
                ..
            }
        ),
        "{other}"
    );
    let bytes = loaded.bytes("a").unwrap_err().problem;
    assert!(
        matches!(
            bytes,
            Problem::OtherKind {
                expected: Kind::Bytes,
                found: Kind::Array(ElementType::F64),
                ..
            }
        ),
        "{bytes}"
    );
    let length = loaded.fixed::<8>("c").unwrap_err().problem;
    assert!(
        matches!(
            length,
            Problem::OtherLength {
                expected: 8,
                found: 1,
                ..
            }
        ),
        "{length}"
    );
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
    let dir = directory("unwritable");
    let twice = Checkpoint::new(1).section("a", b"1").section("a", b"2");
    let long = Checkpoint::new(1).section("x".repeat(65_536), b"1");
    let deep = Array::from_elem(IxDyn(&[1; 256]), 0.0);
    let deep = Checkpoint::new(1).section("deep", &deep);
    for (checkpoint, what) in [
        (twice, "two sections `a`"),
        (long, "65535 bytes"),
        (deep, "255 axes"),
    ] {
        let error = checkpoint.save(dir.join("file")).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("file"), "{error}");
        assert!(checkpoint.to_bytes().is_err());
    }
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
}

#[test]
fn every_change_of_one_byte_is_found() {
    let bytes = small();
    for at in 0..bytes.len() {
        let others = [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            bytes[at] ^ 1,
            bytes[at] ^ 0x80,
            bytes[at].wrapping_add(1),
        ];
        for other in others.into_iter().filter(|&other| other != bytes[at]) {
            let mut damaged = bytes.clone();
            damaged[at] = other;
            let error = Checkpoint::from_bytes(&damaged)
                .expect_err("not found")
                .problem;
            let sum = matches!(
                error,
                Problem::HeaderChecksum | Problem::SectionChecksum { .. }
            );
            assert!(
                sum || at < 8 && matches!(error, Problem::Foreign),
                "byte {at}: {error}"
            );
        }
    }
}

#[test]
fn every_missing_end_and_every_addition_is_found() {
    let bytes = small();
    for length in 0..bytes.len() {
        match Checkpoint::from_bytes(&bytes[..length])
            .unwrap_err()
            .problem
        {
            Problem::Truncated { expected, found } => {
                assert_eq!(found, length as u64);
                assert_eq!(expected, if length < 44 { 44 } else { bytes.len() as u64 });
            }
            other => panic!("{length} bytes: {other}"),
        }
    }
    for more in [1, 2, 1000] {
        let mut long = bytes.clone();
        long.resize(bytes.len() + more, 0);
        let error = Checkpoint::from_bytes(&long).unwrap_err().problem;
        assert!(matches!(error, Problem::TooLong { .. }), "{error}");
    }
    // Two pieces exchanged.
    let mut exchanged = bytes.clone();
    let n = bytes.len();
    exchanged.swap(n - 1, n - 2);
    let error = Checkpoint::from_bytes(&exchanged).unwrap_err().problem;
    assert!(
        matches!(&error, Problem::SectionChecksum { name } if name == "loader"),
        "{error}"
    );
}

/// A file with this version and table, and the right checksums.
fn file_of(version: u32, table: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = b"\x89ndopt\r\n".to_vec();
    file.extend(version.to_le_bytes());
    file.extend(crc32(&file).to_le_bytes());
    file.extend(9_u64.to_le_bytes());
    file.extend((44 + table.len() as u64 + data.len() as u64).to_le_bytes());
    file.extend((table.len() as u32).to_le_bytes());
    file.extend(crc32(table).to_le_bytes());
    file.extend(crc32(&file).to_le_bytes());
    file.extend(table);
    file.extend(data);
    file
}

/// A line of the table.
fn line(name: &[u8], kind: u8, shape: &[u64], bytes: u64, data: &[u8]) -> Vec<u8> {
    let mut line = (name.len() as u16).to_le_bytes().to_vec();
    line.extend(name);
    line.extend([kind, shape.len() as u8]);
    shape.iter().for_each(|n| line.extend(n.to_le_bytes()));
    line.extend(bytes.to_le_bytes());
    line.extend(crc32(data).to_le_bytes());
    line
}

#[test]
fn files_that_are_none_say_so() {
    let dir = directory("foreign");
    let load = |name: &str, contents: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, contents).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert_eq!(error.path, Some(path));
        error.problem
    };
    assert!(matches!(
        load("empty", b""),
        Problem::Truncated { found: 0, .. }
    ));
    assert!(matches!(load("zeros", &[0; 1000]), Problem::Foreign));
    assert!(matches!(load("text", b"{}"), Problem::Foreign));
    assert!(matches!(
        load("png", b"\x89PNG\r\n\x1a\n and so on, and so on, and so on"),
        Problem::Foreign
    ));
    let mut translated = small();
    translated.remove(6);
    assert!(matches!(load("line ends", &translated), Problem::Foreign));
    let future = load("future", &file_of(FORMAT_VERSION + 1, b"", b""));
    assert!(
        matches!(future, Problem::Future { version, supported } if version == supported + 1),
        "{future}"
    );
    // Nothing behind the version needs to look like anything.
    assert!(matches!(
        load("far future", &file_of(700, b"", b"")[..16]),
        Problem::Future { version: 700, .. }
    ));
    assert!(matches!(
        load("version 0", &file_of(0, b"", b"")),
        Problem::Malformed(_)
    ));
    assert!(
        Checkpoint::from_bytes(&file_of(1, b"", b""))
            .unwrap()
            .iter()
            .next()
            .is_none()
    );
    let error = Checkpoint::load(&dir).unwrap_err();
    assert!(matches!(error.problem, Problem::NotAFile), "{error}");
    let error = Checkpoint::load(dir.join("missing")).unwrap_err();
    assert!(
        matches!(&error.problem, Problem::Io(io) if io.kind() == ErrorKind::NotFound),
        "{error}"
    );
    assert!(error.to_string().contains("missing"));
    let error = Checkpoints::open(dir.join("text"), 1).unwrap_err();
    assert!(matches!(error.problem, Problem::Io(_)), "{error}");
}

#[test]
fn tables_with_right_checksums_and_wrong_contents_are_refused() {
    let x = [1, 2, 3, 4];
    let right = line(b"a", 1, &[1], 4, &x);
    assert_eq!(
        Checkpoint::from_bytes(&file_of(1, &right, &x))
            .unwrap()
            .array::<f32>("a")
            .unwrap()
            .shape(),
        [1]
    );
    let twice = [right.clone(), right.clone()].concat();
    let error = Checkpoint::from_bytes(&file_of(1, &twice, &[x, x].concat()))
        .unwrap_err()
        .problem;
    assert!(
        matches!(&error, Problem::DuplicateSection { name } if name == "a"),
        "{error}"
    );
    let big = u64::MAX;
    let wrong = [
        line(b"a", 1, &[1], 4, b"")[..18].to_vec(),
        line(b"a", 3, &[1], 4, &x),
        line(b"a", 0, &[4], 4, &x),
        line(b"\xff", 0, &[], 4, &x),
        line(b"a", 1, &[2], 4, &x),
        line(b"a", 1, &[1 << 62, 4, 1], 4, &x),
        line(b"a", 1, &[big, big], 4, &x),
        line(b"a", 0, &[], 5, &x),
        line(b"a", 0, &[], 3, &x),
        line(b"a", 0, &[], big, &x),
        [line(b"a", 0, &[], big, &x), line(b"b", 0, &[], 5, &x)].concat(),
        [
            line(b"a", 0, &[], 4, &x),
            line(b"b", 1, &[0, big, big], 0, b""),
        ]
        .concat(),
        [
            line(b"a", 0, &[], 4, &x),
            line(b"b", 1, &[big, 2, 0], 0, b""),
        ]
        .concat(),
        [right.clone(), vec![0]].concat(),
        vec![0xff; 100],
    ];
    for table in wrong {
        let error = Checkpoint::from_bytes(&file_of(1, &table, &x))
            .unwrap_err()
            .problem;
        assert!(matches!(error, Problem::Malformed(_)), "{table:?}: {error}");
    }
    let mut long_table = file_of(1, &right, &x);
    long_table[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let sum = crc32(&long_table[..40]);
    long_table[40..44].copy_from_slice(&sum.to_le_bytes());
    let error = Checkpoint::from_bytes(&long_table).unwrap_err().problem;
    assert!(matches!(error, Problem::Malformed(_)), "{error}");
}

/// Loads whatever it is; memory stays in proportion to the bytes.
fn no_harm(bytes: &[u8]) -> Result<Checkpoint<'static>, CheckpointError> {
    let mut loaded = None;
    let info = measure(|| loaded = Some(Checkpoint::from_bytes(bytes)));
    let bound = 1000 + 20 * bytes.len() as u64;
    assert!(
        info.bytes_max < bound,
        "{} bytes allocated for {}",
        info.bytes_max,
        bytes.len()
    );
    loaded.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(no_harm(&bytes).is_err());
    }

    /// As above, but behind a right beginning, where a reader believes more.
    #[test]
    fn arbitrary_bytes_behind_a_header_do_no_harm(
        table in proptest::collection::vec(
            prop_oneof![4 => Just(0_u8), 2 => 0_u8..9, 1 => any::<u8>()],
            0..200,
        ),
        data in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = no_harm(&file_of(1, &table, &data));
    }

    /// Tables whose lines are whole, with lengths and shapes that are mostly wrong.
    #[test]
    fn arbitrary_tables_do_no_harm(
        lines in proptest::collection::vec(
            (
                "[a-c]{0,2}",
                0_u8..4,
                proptest::collection::vec(prop_oneof![4 => 0_u64..4, 1 => any::<u64>()], 0..4),
                prop_oneof![4 => 0_u64..33, 1 => any::<u64>()],
                any::<bool>(),
            ),
            0..6,
        ),
    ) {
        let mut data = Vec::new();
        let table = lines.iter().flat_map(|(name, kind, shape, bytes, right)| {
            let size = [1, 4, 8, 8][usize::from(*kind)];
            let product = shape.iter().fold(size, |n: u64, x| n.wrapping_mul(*x));
            let bytes = if *right { product } else { *bytes };
            let contents = vec![7; bytes.min(1000) as usize];
            data.extend_from_slice(&contents);
            line(name.as_bytes(), *kind, shape, bytes, &contents)
        });
        let table: Vec<u8> = table.collect();
        let file = file_of(1, &table, &data);
        if let Ok(loaded) = no_harm(&file) {
            // What is accepted is what would be written.
            prop_assert_eq!(loaded.to_bytes().unwrap(), file);
        }
    }

    #[test]
    fn damage_anywhere_is_found(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = small();
        let mut bytes = whole.clone();
        for (at, value) in changes {
            bytes[at.index(whole.len())] = value;
        }
        bytes.truncate(1 + cut.index(2 * whole.len()));
        prop_assert!(bytes == whole || no_harm(&bytes).is_err());
    }

    #[test]
    fn any_sections_come_back(
        step in any::<u64>(),
        sections in proptest::collection::hash_map(
            ".*",
            proptest::collection::vec(any::<u32>(), 0..50),
            0..8,
        ),
    ) {
        let mut checkpoint = Checkpoint::new(step);
        for (name, values) in &sections {
            let values: Array1<f32> = values.iter().map(|&x| f32::from_bits(x)).collect();
            checkpoint = checkpoint.section(name, values);
        }
        let loaded = no_harm(&checkpoint.to_bytes().unwrap()).unwrap();
        prop_assert_eq!((loaded.step(), loaded.iter().len()), (step, sections.len()));
        for (name, values) in &sections {
            let back = loaded.array::<f32>(name).unwrap();
            let back: Vec<u32> = back.iter().map(|x| x.to_bits()).collect();
            prop_assert_eq!(&back, values);
        }
    }
}

fn at(step: u64) -> Checkpoint<'static> {
    Checkpoint::new(step).section("step", step.to_le_bytes())
}

/// Names in a directory, in order.
fn names(checkpoints: &Checkpoints) -> Vec<String> {
    let entries = fs::read_dir(checkpoints.dir()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_newest_are_kept_and_files_of_others_are_left_alone() {
    let dir = directory("keep").join("made/on the way");
    let checkpoints = Checkpoints::open(&dir, 3).unwrap();
    assert!(checkpoints.latest().unwrap().is_none());
    let foreign = [
        "step-1.ckpt",
        "step-000000001.ckpt",
        "step-.ckpt",
        "notes.txt",
        "step-00000001.ckpt.bak",
        "best.ckpt",
    ];
    foreign
        .iter()
        .for_each(|name| fs::write(dir.join(name), b"mine").unwrap());
    for step in [1, 2, 5, 9, 10, 11] {
        assert_eq!(checkpoints.save(&at(step)).unwrap(), checkpoints.path(step));
    }
    assert_eq!(checkpoints.steps().unwrap(), [9, 10, 11]);
    // Again, with other contents.
    checkpoints.save(&at(11).section("more", b"1")).unwrap();
    assert_eq!(checkpoints.steps().unwrap(), [9, 10, 11]);
    let latest = checkpoints.latest().unwrap().unwrap();
    assert_eq!(
        (
            latest.checkpoint.step(),
            latest.checkpoint.iter().len(),
            latest.skipped.len()
        ),
        (11, 2, 0)
    );
    assert_eq!(latest.checkpoint.path(), Some(&*checkpoints.path(11)));
    // A run that has gone back removes nothing that is newer than where it is.
    checkpoints.save(&at(4)).unwrap();
    assert_eq!(checkpoints.steps().unwrap(), [4, 9, 10, 11]);
    checkpoints.save(&at(u64::MAX)).unwrap();
    assert_eq!(checkpoints.steps().unwrap(), [10, 11, u64::MAX]);
    assert_eq!(checkpoints.load(10).unwrap().step(), 10);
    assert!(
        foreign
            .iter()
            .all(|name| fs::read(dir.join(name)).unwrap() == b"mine")
    );
    assert_eq!(names(&checkpoints).len(), 3 + foreign.len());
    let one = Checkpoints::open(&dir, 0).unwrap();
    one.save(&at(u64::MAX)).unwrap();
    assert_eq!(one.steps().unwrap(), [u64::MAX]);
}

#[test]
fn the_newest_whole_one_is_found_behind_damaged_ones() {
    let checkpoints = Checkpoints::open(directory("damaged"), 10).unwrap();
    for step in 1..=6 {
        checkpoints.save(&at(step)).unwrap();
    }
    let bytes = fs::read(checkpoints.path(6)).unwrap();
    fs::write(checkpoints.path(6), &bytes[..60]).unwrap();
    let mut flipped = fs::read(checkpoints.path(5)).unwrap();
    *flipped.last_mut().unwrap() ^= 4;
    fs::write(checkpoints.path(5), flipped).unwrap();
    fs::write(checkpoints.path(4), b"").unwrap();
    fs::remove_file(checkpoints.path(3)).unwrap();
    fs::create_dir(checkpoints.path(3)).unwrap();
    let latest = checkpoints.latest().unwrap().unwrap();
    assert_eq!(latest.checkpoint.step(), 2);
    let skipped: Vec<_> = latest
        .skipped
        .iter()
        .map(|error| (error.path.clone().unwrap(), &error.problem))
        .collect();
    assert!(matches!(
        &skipped[..],
        [
            (six, Problem::Truncated { found: 60, .. }),
            (five, Problem::SectionChecksum { name }),
            (four, Problem::Truncated { found: 0, .. }),
            (three, Problem::NotAFile),
        ] if [six, five, four, three] == [6, 5, 4, 3].map(|step| checkpoints.path(step)).each_ref()
            && name == "step"
    ));
    // Damaged ones that show it do not count among those that are kept.
    let two = Checkpoints::open(checkpoints.dir(), 2).unwrap();
    two.save(&at(7)).unwrap();
    assert_eq!(two.steps().unwrap(), [3, 5, 6, 7]); // 5 hides its damage
    two.save(&at(8)).unwrap();
    assert_eq!(two.steps().unwrap(), [3, 7, 8]); // a directory is not removed
    // If none is whole, that is an error: the run must not begin anew unseen.
    fs::write(two.path(8), b"").unwrap();
    fs::write(two.path(7), b"x").unwrap();
    let error = two.latest().unwrap_err();
    assert_eq!(error.path, Some(two.path(8)));
}

#[test]
fn temporary_files_are_ignored_and_removed_unless_someone_writes_them() {
    let checkpoints = Checkpoints::open(directory("temporary"), 2).unwrap();
    checkpoints.save(&at(1)).unwrap();
    let write = |name: &str| {
        let path = checkpoints.dir().join(name);
        fs::write(&path, &small()[..30]).unwrap();
        path
    };
    let dead = write("step-00000009.ckpt.tmp-4711-0123456789abcdef");
    let alive = write("step-00000009.ckpt.tmp-4712-0123456789abcdef");
    let foreign = write("notes.tmp-1-2");
    let lock = File::options().write(true).open(&alive).unwrap();
    lock.lock().unwrap();
    assert_eq!(checkpoints.steps().unwrap(), [1]);
    assert_eq!(checkpoints.latest().unwrap().unwrap().checkpoint.step(), 1);
    checkpoints.save(&at(2)).unwrap();
    assert_eq!(
        [dead.exists(), alive.exists(), foreign.exists()],
        [false, true, true]
    );
    drop(lock);
    checkpoints.save(&at(3)).unwrap();
    assert_eq!(
        names(&checkpoints),
        ["notes.tmp-1-2", "step-00000002.ckpt", "step-00000003.ckpt"]
    );
}

#[test]
fn handles_at_work_at_once_do_not_break_each_other() {
    let dir = directory("together");
    let (threads, saves) = (4, 40);
    thread::scope(|scope| {
        for thread in 0..threads {
            let dir = &dir;
            scope.spawn(move || {
                let checkpoints = Checkpoints::open(dir, 2).unwrap();
                for save in 0..saves {
                    // Partly the same steps, from small files to some of more than a block.
                    let step = save * 2 + thread % 2;
                    let n = if save % 3 == 0 { 100_000 } else { 10 };
                    checkpoints
                        .save(&at(step).section("data", Array1::<f32>::zeros(n)))
                        .unwrap();
                    let latest = checkpoints.latest().unwrap().unwrap();
                    assert!(latest.skipped.is_empty(), "{latest:?}");
                    assert!(latest.checkpoint.step() >= step);
                    assert_eq!(
                        latest
                            .checkpoint
                            .fixed("step")
                            .map(u64::from_le_bytes)
                            .unwrap(),
                        latest.checkpoint.step()
                    );
                }
            });
        }
    });
    let checkpoints = Checkpoints::open(&dir, 2).unwrap();
    checkpoints.save(&at(1000)).unwrap();
    assert_eq!(
        names(&checkpoints),
        ["step-00000079.ckpt", "step-00001000.ckpt"]
    );
}

#[cfg(unix)]
#[test]
fn missing_permissions_are_errors_with_the_path() {
    use std::os::unix::fs::PermissionsExt;
    let checkpoints = Checkpoints::open(directory("permissions"), 2).unwrap();
    checkpoints.save(&at(1)).unwrap();
    checkpoints.save(&at(2)).unwrap();
    let set =
        |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(checkpoints.path(2), 0);
    if File::open(checkpoints.path(2)).is_err() {
        let error = checkpoints.load(2).unwrap_err();
        assert!(
            matches!(&error.problem, Problem::Io(io) if io.kind() == ErrorKind::PermissionDenied),
            "{error}"
        );
        let latest = checkpoints.latest().unwrap().unwrap();
        assert_eq!((latest.checkpoint.step(), latest.skipped.len()), (1, 1));
        set(checkpoints.dir().into(), 0o500);
        let error = checkpoints.save(&at(3)).unwrap_err();
        assert_eq!(error.path, Some(checkpoints.path(3)));
        assert!(
            matches!(&error.problem, Problem::Io(io) if io.kind() == ErrorKind::PermissionDenied),
            "{error}"
        );
        set(checkpoints.dir().into(), 0o700);
    } else {
        println!("not tested: this user may read everything");
    }
    // A link to nowhere, and something that would block whoever opens it.
    std::os::unix::fs::symlink("nowhere", checkpoints.path(3)).unwrap();
    let latest = checkpoints.latest().unwrap().unwrap();
    assert!(
        matches!(&latest.skipped[0].problem, Problem::Io(io) if io.kind() == ErrorKind::NotFound)
    );
    let error = Checkpoint::load("/dev/zero").unwrap_err();
    assert!(matches!(error.problem, Problem::NotAFile), "{error}");
}

/// One file for each format version. They are never written again: what they hold must load for
/// ever.
#[test]
fn golden_files_load() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints");
    let golden: HashSet<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    for version in 1..=FORMAT_VERSION {
        assert!(
            golden.contains(&*std::ffi::OsString::from(format!("v{version}.ckpt"))),
            "no file of version {version}"
        );
    }
    let mut loaded = Checkpoint::load(dir.join("v1.ckpt")).unwrap();
    assert_eq!((loaded.step(), loaded.iter().len()), ((1 << 40) + 7, 10));
    let weight = array![
        [0.0, -0.0, 1.5],
        [f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(1)]
    ];
    assert_eq!(
        bits(loaded.array("weight").unwrap()),
        bits(weight.view().into_dyn())
    );
    let bias: Vec<u64> = loaded
        .array::<f64>("bias")
        .unwrap()
        .iter()
        .map(|x| x.to_bits())
        .collect();
    assert_eq!(
        bias,
        [
            0x7ff4_0000_0000_beef,
            0xfff8_0000_0000_0001,
            1.0_f64.to_bits()
        ]
    );
    assert_eq!(loaded.array::<f64>("scale").unwrap(), arr0(-0.1).into_dyn());
    assert_eq!(loaded.array::<f32>("nothing").unwrap().shape(), [4, 0, 2]);
    assert_eq!(
        loaded.bytes("optimizer").unwrap(),
        (0..=255).collect::<Vec<u8>>()
    );
    assert_eq!(
        loaded.bytes("schedule").unwrap(),
        br#"{"name": "constant", "lr": 0.1}"#
    );
    assert_eq!(
        loaded.fixed("random").map(u64::from_le_bytes).unwrap(),
        0x9e37_79b9_7f4a_7c15
    );
    let loader = loaded.fixed::<16>("loader").unwrap();
    assert_eq!(loader[..8], 3_u64.to_le_bytes());
    assert_eq!(loader[8..], 12345_u64.to_le_bytes());
    assert_eq!(loaded.bytes("").unwrap(), b"");
    assert_eq!(
        loaded.take::<f32>("Gewicht für später").unwrap(),
        array![1.0].into_dyn()
    );
    // The newest version is also what is written.
    let newest = dir.join(format!("v{FORMAT_VERSION}.ckpt"));
    assert_eq!(
        Checkpoint::load(&newest).unwrap().to_bytes().unwrap(),
        fs::read(newest).unwrap()
    );
}

#[test]
fn saving_and_loading_need_one_block_beside_the_arrays() {
    let array = Array2::<f32>::ones((1000, 1000));
    let path = directory("memory").join("file");
    let info = measure(|| Checkpoint::new(1).section("a", &array).save(&path).unwrap());
    assert!(info.bytes_max < 300_000, "{}", info.bytes_max);
    let info = measure(|| {
        assert_eq!(
            Checkpoint::load(&path)
                .unwrap()
                .take::<f32>("a")
                .unwrap()
                .len(),
            1_000_000
        )
    });
    assert!(info.bytes_max < 4_300_000, "{}", info.bytes_max);
}

#[test]
fn the_arrays_of_an_optimizer_are_sections_that_are_not_copied() {
    let mut adamw = Optimizer::<f32>::new(AdamW::new(0.1));
    let weight = Array2::ones((1000, 250));
    adamw.update(&mut weight.clone(), &weight).unwrap();
    let path = directory("state").join("file");
    let info = measure(|| {
        Checkpoint::new(1)
            .state("optimizer", adamw.state_view())
            .unwrap()
            .save(&path)
            .unwrap()
    });
    assert!(info.bytes_max < 300_000, "{}", info.bytes_max);
    let mut checkpoint = Checkpoint::load(&path).unwrap().section("loader", [1]);
    let names: Vec<_> = checkpoint
        .iter()
        .map(|(name, section)| (name.to_owned(), section.shape().to_vec()))
        .collect();
    let array = |name: &str| (format!("optimizer/variable.{name}"), vec![1000, 250]);
    let (header, loader) = (("optimizer".into(), vec![]), ("loader".into(), vec![]));
    assert_eq!(
        names,
        [header, array("exp_avg"), array("exp_avg_sq"), loader]
    );
    let mut resumed = Optimizer::<f32>::new(AdamW::new(1.0));
    let info = measure(|| {
        resumed
            .load_state_dict(checkpoint.take_state("optimizer").unwrap())
            .unwrap();
    });
    assert!(info.bytes_max < 20_000, "{}", info.bytes_max);
    assert_eq!(resumed.state_view(), adamw.state_view());
    assert_eq!(
        checkpoint.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["loader"]
    );
    // Column-major ones are brought into the order of the file, and back.
    let mut turned = Optimizer::<f32>::new(AdamW::new(0.1));
    let grad = Array2::from_shape_fn((3, 2).f(), |(i, j)| (i * 2 + j) as f32);
    turned.update(&mut grad.clone(), &grad).unwrap();
    let bytes = Checkpoint::new(1)
        .state("a", turned.state_view())
        .unwrap()
        .state("b", adamw.state_view())
        .unwrap();
    let mut loaded = Checkpoint::from_bytes(&bytes.to_bytes().unwrap()).unwrap();
    assert_eq!(
        loaded
            .array::<f32>("a/variable.exp_avg")
            .unwrap()
            .as_slice()
            .unwrap()[1],
        0.1
    );
    assert_eq!(loaded.take_state("b").unwrap(), adamw.state_dict());
    assert_eq!(loaded.take_state("a").unwrap(), turned.state_dict());
}

#[test]
fn a_state_that_is_not_whole_is_refused_and_stays() {
    let mut adafactor = Optimizer::<f64>::new(Adafactor::new(0.1));
    adafactor
        .update(
            &mut array![[1.0, 2.0], [3.0, 4.0]],
            &array![[1.0, 2.0], [3.0, 4.0]],
        )
        .unwrap();
    let whole = Checkpoint::new(1)
        .state("optimizer", adafactor.state_view())
        .unwrap();
    let whole = Checkpoint::from_bytes(&whole.to_bytes().unwrap()).unwrap();
    assert_eq!(
        whole.clone().take_state("optimizer").unwrap(),
        adafactor.state_dict()
    );
    let names: Vec<String> = whole.iter().map(|(name, _)| name.into()).collect();
    assert!(names.len() > 2, "{names:?}");
    let changed = |name: &str, new: Option<Section<'static>>| {
        let others = whole.iter().filter(|(other, _)| *other != name);
        let others = others.fold(Checkpoint::new(1), |all, (name, section)| {
            all.section(name.to_owned(), section.clone())
        });
        new.into_iter()
            .fold(others, |all, new| all.section(name.to_owned(), new))
    };
    let refused = |mut checkpoint: Checkpoint<'_>| {
        let before = checkpoint.to_bytes().unwrap();
        let error = checkpoint.take_state("optimizer").unwrap_err();
        assert_eq!(checkpoint.to_bytes().unwrap(), before, "{error}");
        error.problem
    };
    for name in &names {
        let problem = refused(changed(name, None));
        assert!(
            matches!(&problem, Problem::MissingSection { name: missing, .. } if missing == name),
            "{problem}"
        );
        let problem = refused(changed(name, Some(Array1::<f64>::zeros(77).into())));
        assert!(
            matches!(problem, Problem::OtherKind { .. } | Problem::State { .. }),
            "{problem}"
        );
        let problem = refused(changed(name, Some(vec![b'7'].into())));
        assert!(matches!(problem, Problem::State { .. }), "{problem}");
    }
    // Two arrays of the state that are to be one section.
    let header = String::from_utf8(whole.bytes("optimizer").unwrap().into()).unwrap();
    let (first, second) = (
        names[1].rsplit('.').next().unwrap(),
        names[2].rsplit('.').next().unwrap(),
    );
    let twice = header.replace(&format!("\"{second}\""), &format!("\"{first}\""));
    assert_ne!(twice, header);
    let problem = refused(changed("optimizer", Some(twice.into_bytes().into())));
    assert!(
        matches!(&problem, Problem::State { problem, .. } if problem.contains("twice")),
        "{problem}"
    );
}

#[test]
fn the_arrays_of_a_model_are_saved_and_restored_by_their_names() {
    use ndarray_optim::{NamedArrays, NamedArraysMut};
    let mut model = (array![[1.0, 2.0]], (3.0, array![4.0]));
    let checkpoint = Checkpoint::new(1).arrays(model.views());
    let bytes = checkpoint.to_bytes().unwrap();
    let loaded = Checkpoint::from_bytes(&bytes).unwrap();
    let names = loaded.iter().map(|(name, _)| name);
    assert!(names.eq(["0", "1.0", "1.1"]));
    let before = model.clone();
    model.fill_all(0.0);
    loaded.restore(model.views_mut()).unwrap();
    assert_eq!(model, before);
}
