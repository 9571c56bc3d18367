//! Undoes each mend that `mends/*.toml` lists, in a copy of the source, and expects the test that
//! holds it to fail.
//!
//! `cargo run -p mutants -- --check` only checks that the lists match the source.
use clap::Parser;
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Only mends whose row, file or test contains this text.
    filter: Option<String>,
    /// Check that each text occurs exactly once in its file, and run nothing.
    #[arg(long)]
    check: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mend: Vec<Mend>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mend {
    /// What was mended, in a few words.
    row: String,
    file: PathBuf,
    /// Text that occurs once in `file`.
    find: String,
    /// The text instead of it that brings the fault back.
    replace: String,
    /// A test of `--test suite`, or `lib:` and a unit test.
    test: String,
}

impl Mend {
    /// Returns the content of `file` with the fault in it.
    fn undone(&self, root: &Path) -> Result<String> {
        let path = root.join(&self.file);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            n => Err(format!(
                "{}, `{}`: its text occurs {n} times in the file",
                self.row,
                self.file.display()
            )
            .into()),
        }
    }

    /// The arguments of cargo that run its test, or only build it.
    fn cargo(&self, root: &Path, build_only: bool) -> Command {
        let (target, name): (&[&str], _) = match self.test.strip_prefix("lib:") {
            Some(name) => (&["--lib"], name),
            None => (&["--test", "suite"], self.test.as_str()),
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root).arg("test").args(target);
        cargo.args(["--package", "ndarray-optim", "--all-features"]);
        // Of the target directory of the copy, so that it is compiled incrementally.
        cargo.env_remove("CARGO_TARGET_DIR");
        if build_only {
            cargo.arg("--no-run");
        } else {
            cargo.args(["--", name]);
        }
        cargo
    }

    /// Runs its test, and returns whether it passed.
    fn passes(&self, root: &Path) -> Result<bool> {
        let out = self.cargo(root, true).output()?;
        if !out.status.success() {
            return Err(format!("{}: it does not compile\n{}", self.row, text(&out)).into());
        }
        let out = self.cargo(root, false).output()?;
        if text(&out).contains("running 0 tests") {
            return Err(format!("{}: there is no test `{}`", self.row, self.test).into());
        }
        Ok(out.status.success())
    }
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn mends(root: &Path, filter: &str) -> Result<Vec<Mend>> {
    let lists: std::result::Result<BTreeSet<_>, _> =
        fs::read_dir(root.join("tools/mutants/mends"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect();
    let mut mends = Vec::new();
    for path in lists? {
        let list: List = toml::from_str(&fs::read_to_string(&path)?)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        mends.extend(list.mend);
    }
    mends.retain(|mend| {
        [&mend.row, &mend.test].iter().any(|s| s.contains(filter))
            || mend.file.to_string_lossy().contains(filter)
    });
    Ok(mends)
}

/// Writes a file unless its content is this already, so that cargo sees what changed.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().ok_or("no directory")?)?;
    Ok(fs::write(path, content)?)
}

/// Copies all files that git knows or would add.
fn copy(root: &Path, to: &Path) -> Result<()> {
    let list = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-co", "--exclude-standard"])
        .output()?;
    for file in String::from_utf8(list.stdout)?.lines() {
        if let Ok(content) = fs::read(root.join(file)) {
            write(&to.join(file), &content)?;
        }
    }
    Ok(())
}

fn run() -> Result<bool> {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let mends = mends(&root, arguments.filter.as_deref().unwrap_or(""))?;
    for mend in &mends {
        mend.undone(&root)?;
    }
    println!("{} mends, each found in the source", mends.len());
    if arguments.check {
        return Ok(true);
    }
    let tree = root.join("target/mutants");
    copy(&root, &tree)?;
    for mend in &mends {
        if !mend.passes(&tree)? {
            return Err(format!("{}: `{}` fails by itself", mend.row, mend.test).into());
        }
    }
    let mut survived = 0;
    for mend in &mends {
        let path = tree.join(&mend.file);
        let original = fs::read(&path)?;
        write(&path, mend.undone(&tree)?.as_bytes())?;
        let passed = mend.passes(&tree);
        write(&path, &original)?;
        let word = match passed {
            Ok(true) => "SURVIVED",
            Ok(false) => "killed",
            Err(ref e) => &format!("ERROR {e}"),
        };
        survived += usize::from(word != "killed");
        println!(
            "{word}: {} ({}) by {}",
            mend.row,
            mend.file.display(),
            mend.test
        );
    }
    println!("{} of {} killed", mends.len() - survived, mends.len());
    Ok(survived == 0)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
