//! Whether every type has its sample, by reading the sources.

use std::fs;
use std::path::{Path, PathBuf};

use crate::samples;

#[test]
fn every_serialised_type_has_a_sample() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let types: Vec<String> = sources(&src).iter().flat_map(|file| serialised(&src, file)).collect();
    assert!(types.len() > 60, "the search finds too little: {types:?}");
    let names: Vec<String> = samples().into_iter().map(|sample| sample.name).collect();
    let is_sampled = |path: &String| {
        let rest = |name: &String| name.strip_prefix(path.as_str()).map(String::from);
        names.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with([':', '<']))
    };
    let missing: Vec<&String> = types.iter().filter(|path| !is_sampled(path)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "add samples of these to tests/golden");
}

#[test]
fn no_two_samples_share_a_name() {
    let mut names: Vec<String> = samples().into_iter().map(|sample| sample.name).collect();
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert_eq!(twice, Vec::<&[String]>::new());
}

#[test]
fn the_search_sees_derives_of_several_lines_and_full_names_and_no_tests() {
    let text = "#[derive(\n    Clone,\n    Serialize,\n)]\n#[serde(transparent)]\n/// It.\npub struct A(u8);\n\
                #[derive(Clone)]\nenum B {}\n#[derive(Serialize)]\npub(crate) enum C {}\n\
                impl Serialize for D<u8> {\n}\n\
                #[derive(Clone, serde::Serialize)]\nstruct F;\n\
                #[cfg(test)]\nmod tests {\n    #[derive(Serialize)]\n    struct E;\n}\n";
    assert_eq!(found_in(text), ["A", "C", "F", "D"]);
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// `module::Type` of each type of a file that has bytes.
fn serialised(src: &Path, file: &Path) -> Vec<String> {
    let module = file.strip_prefix(src).unwrap().with_extension("");
    let module = module.to_str().unwrap().replace('/', "::");
    let text = fs::read_to_string(file).unwrap();
    found_in(&text).into_iter().map(|name| format!("{module}::{name}")).collect()
}

fn found_in(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let derived = text.split("#[derive(").skip(1).filter_map(|rest| {
        let (derives, item) = rest.split_once(")]")?;
        let is_serialised = derives.split([',', ' ', '\n', ':']).any(|word| word == "Serialize");
        is_serialised.then(|| declared(item))
    });
    let by_hand = text.split("Serialize for ").skip(1).map(word);
    derived.chain(by_hand).collect()
}

/// The name of the first struct or enum.
fn declared(item: &str) -> String {
    let line = |line: &&str| !line.trim_start().starts_with(['/', '#']);
    let code: Vec<&str> = item.lines().filter(line).collect();
    let code = code.join("\n");
    let kind =
        code.find("struct ").into_iter().chain(code.find("enum ")).min().expect("a type follows a derive");
    word(code[kind..].split_once(' ').expect("a name follows").1)
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
