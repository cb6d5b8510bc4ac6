//! Code for vector registers is inlined into the function that enables the vector instructions. A closure
//! compiled separately would use the baseline instructions of the architecture, and only its speed would show
//! it.

use std::hint::black_box;
use std::path::Path;

use chainrule_engine::nn::testing::run_vectorized;
use object::{Object, ObjectSymbol};

/// The names of the functions that this program contains as separate symbols.
fn functions() -> Vec<String> {
    let program = std::env::current_exe().expect("a path");
    let bytes = std::fs::read(program).expect("a file");
    let file = object::File::parse(&*bytes).expect("an executable");
    let names = file.symbols().filter_map(|symbol| Some(symbol.name().ok()?.to_owned()));
    names.map(|name| format!("{:#}", rustc_demangle::demangle(&name))).collect()
}

/// A function of the engine that gives closures to the vectorized function.
struct User {
    /// Path of its module.
    module: String,
    function: String,
}

/// The functions in `text`, the source of `module`, that use one of `names`.
fn users(module: &str, text: &str, names: &[&str]) -> Vec<User> {
    let mut users = Vec::new();
    let mut function = "";
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        if let Some((_, rest)) = line.split_once("fn ") {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            function = &rest[..end];
        }
        if names.iter().any(|name| line.contains(name)) {
            users.push(User { module: module.to_owned(), function: function.to_owned() });
        }
    }
    users
}

/// All functions of the engine that use `vectorized!` or `update_each!`.
fn users_of_the_engine(folder: &Path, module: &str) -> Vec<User> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let of_entry = |path: std::path::PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("UTF-8");
        let module = if name == "mod" { module.to_owned() } else { format!("{module}::{name}") };
        if path.is_dir() {
            return users_of_the_engine(&path, &module);
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        users(&module, &text, &["vectorized!(", "update_each!("])
    };
    entries.flat_map(of_entry).collect()
}

/// The closures of `user` that exist as separate functions. The name of a method of a trait has no module.
fn closures_of<'a>(functions: &'a [String], user: &User) -> Vec<&'a String> {
    let closure = format!("::{}::{{{{closure}}}}", user.function);
    let is_of_module = |name: &str| name.contains(&user.module) || name.starts_with('<');
    functions.iter().filter(|name| name.contains(&closure) && is_of_module(name)).collect()
}

#[inline(never)]
fn doubled_on_its_own(numbers: &mut [f32]) {
    run_vectorized(
        #[inline(never)]
        || numbers.iter_mut().for_each(|number| *number *= 2.0),
    );
}

#[test]
fn every_vectorized_closure_is_compiled_into_the_vectorized_function() {
    let mut numbers = [1.0, 2.0];
    doubled_on_its_own(black_box(&mut numbers));
    assert_eq!(numbers, [2.0, 4.0]);
    let functions = functions();
    assert!(functions.iter().any(|name| name.contains("run_vectorized")), "names of functions are there");

    let here = users(module_path!(), include_str!("inlined.rs"), &["run_vectorized("]);
    let control = here.iter().find(|user| user.function == "doubled_on_its_own").expect("the control");
    assert!(!closures_of(&functions, control).is_empty(), "what is not inlined is found");

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let users = users_of_the_engine(&source, "chainrule_engine");
    assert!(users.len() > 20, "{} uses of the macros", users.len());
    for user in users {
        let User { module, function } = &user;
        assert_eq!(closures_of(&functions, &user), [] as [&String; 0], "{module}::{function}");
    }
    // These are called from vectorized functions, and have closures of their own.
    for function in ["Loss::row", "softmax_row"] {
        let is_closure = |name: &&String| name.contains(function) && name.contains("closure");
        assert_eq!(functions.iter().find(is_closure), None, "{function}");
    }
}
