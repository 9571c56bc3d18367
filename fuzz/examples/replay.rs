//! Runs inputs through a target without the fuzzer: `cargo run --example replay -- TARGET FILE...`.
fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let names = fuzzing::TARGETS.map(|(name, _)| name);
    let (_, target) = fuzzing::TARGETS
        .into_iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("one of {names:?}"));
    for file in args {
        println!("{file}");
        target(&std::fs::read(file).unwrap());
    }
}
