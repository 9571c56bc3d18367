//! `docs/dialects.md` says what the code does: each cell of its table is what a file has to say for
//! the preset of that name, and each golden case in it was made with that preset.

use crate::common::cases;
use ndarray_optim::{algorithm::HyperParameters, *};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const DIALECTS: [&str; 4] = ["torch", "optax", "keras", "paper"];

fn presets() -> BTreeMap<(&'static str, &'static str), AnyAlgorithm> {
    let mut all = BTreeMap::new();
    macro_rules! presets {
        ($($algorithm:ident)*) => {
            $(for (dialect, preset) in $algorithm::presets() {
                all.insert(($algorithm::NAME, dialect), preset.into());
            })*
        };
    }
    presets! {
        Sgd RmsProp Adam AdamW Adamax NAdam RAdam Adagrad Adadelta Rprop Lion Adan Yogi Lamb Ftrl
        Muon Adafactor
    }
    all
}

/// What a case may have beside its preset: the learning rate, and options that mean the same in
/// every dialect.
const FREE: [&str; 12] = [
    "adjust_lr",
    "lr",
    "weight_decay",
    "momentum",
    "nesterov",
    "dampening",
    "centered",
    "amsgrad",
    "beta",
    "lambda_1",
    "lambda_2",
    "maximize",
];

/// Cases whose reference was run with another number than the preset's.
const OTHER: [(&str, &str); 1] = [("dialects-rmsprop-optax-measured", "alpha")];

fn keys(config: &AnyAlgorithm) -> Map<String, Value> {
    serde_json::to_value(config)
        .unwrap()
        .as_object()
        .unwrap()
        .clone()
}

fn text() -> String {
    let at = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dialects.md");
    std::fs::read_to_string(at).unwrap()
}

/// The cells of each row by the optimizer it is about: the four dialects, what differs, the cases.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned());
        (
            cells.next().unwrap().trim_matches('`').to_owned(),
            cells.collect(),
        )
    })
    .collect()
}

#[test]
fn every_cell_is_what_a_file_says_for_the_preset() {
    let (rows, presets) = (rows(&text()), presets());
    for (name, cells) in &rows {
        for (dialect, cell) in DIALECTS.into_iter().zip(cells) {
            let preset = presets.get(&(name.as_str(), dialect));
            let Some(preset) = preset else {
                assert!(
                    ["", "no", "none"].contains(&cell.as_str()),
                    "there is no {name} of {dialect}, but {cell}"
                );
                continue;
            };
            let keys = if cell == "defaults" {
                "{}"
            } else {
                cell.trim_matches('`')
            };
            let mut keys: Map<String, Value> = serde_json::from_str(keys).unwrap();
            keys.insert("name".into(), name.as_str().into());
            let config: AnyAlgorithm = serde_json::from_value(keys.into()).unwrap();
            assert_eq!(&config, preset, "{name} of {dialect}");
        }
    }
    for (name, dialect) in presets.keys() {
        assert!(rows.contains_key(*name), "no row for {name} of {dialect}");
        assert!(DIALECTS.contains(dialect), "{dialect} has no column");
    }
}

#[test]
fn every_preset_is_what_golden_cases_were_made_with() {
    let text = text();
    let (rows, presets) = (rows(&text), presets());
    let all: BTreeMap<String, AnyAlgorithm> = cases()
        .into_iter()
        .map(|case| (case.id, case.optimizer))
        .collect();
    let mut seen = BTreeSet::new();
    for (name, cells) in &rows {
        let mut backed = BTreeSet::new();
        // "optax `id` `id`; keras `id`"
        for part in cells
            .last()
            .unwrap()
            .split(';')
            .filter(|part| !part.is_empty())
        {
            let (dialect, ids) = part.trim().split_once(' ').unwrap();
            let preset = keys(&presets[&(name.as_str(), dialect)]);
            for id in ids.split_whitespace().map(|id| id.trim_matches('`')) {
                let case = keys(
                    all.get(id)
                        .unwrap_or_else(|| panic!("there is no golden case {id}")),
                );
                let other: Vec<_> = case
                    .iter()
                    .filter(|(key, value)| preset.get(*key) != Some(value))
                    .collect();
                for (key, value) in &other {
                    let free = FREE.contains(&key.as_str()) || OTHER.contains(&(id, key));
                    assert!(
                        free,
                        "{id} has {key} {value}, but {name} of {dialect} has {}",
                        preset[*key]
                    );
                }
                if other.iter().all(|(key, _)| *key == "lr") {
                    backed.insert(dialect.to_owned());
                }
                seen.insert(id.to_owned());
            }
        }
        for dialect in DIALECTS
            .into_iter()
            .filter(|dialect| presets.contains_key(&(name.as_str(), dialect)))
        {
            assert!(
                backed.contains(dialect),
                "no case of {name} is that of {dialect} but for lr"
            );
        }
    }
    for id in all.keys().filter(|id| id.starts_with("dialects-")) {
        assert!(text.contains(&format!("`{id}`")), "{id} is in no row");
    }
    println!(
        "{} presets, {} golden cases behind them",
        presets.len(),
        seen.len()
    );
}
