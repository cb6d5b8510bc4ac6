//! Code for vector registers is inlined into the function that enables the vector instructions. A closure
//! compiled separately would use the baseline instructions of the architecture, and only its speed would show
//! it.

use std::hint::black_box;

use chainrule_engine::nn::kernel::run_vectorized;
use object::{Object, ObjectSymbol};

/// The names of the functions that this program contains as separate symbols.
fn functions() -> Vec<String> {
    let program = std::env::current_exe().expect("a path");
    let bytes = std::fs::read(program).expect("a file");
    let file = object::File::parse(&*bytes).expect("an executable");
    let names = file.symbols().filter_map(|symbol| Some(symbol.name().ok()?.to_owned()));
    names.map(|name| format!("{:#}", rustc_demangle::demangle(&name))).collect()
}

fn closures_of<'a>(functions: &'a [String], function: &str) -> Vec<&'a String> {
    functions.iter().filter(|name| name.contains(function) && name.contains("closure")).collect()
}

#[inline(never)]
fn doubled_on_its_own(numbers: &mut [f32]) {
    run_vectorized(
        #[inline(never)]
        || numbers.iter_mut().for_each(|number| *number *= 2.0),
    );
}

#[test]
fn an_update_rule_is_compiled_into_the_vectorized_function() {
    let mut numbers = [1.0, 2.0];
    doubled_on_its_own(black_box(&mut numbers));
    assert_eq!(numbers, [2.0, 4.0]);
    let functions = functions();
    assert!(functions.iter().any(|name| name.contains("run_vectorized")), "names of functions are there");
    assert!(!closures_of(&functions, "doubled_on_its_own").is_empty(), "what is not inlined is found");
    for function in ["optimizer::each", "gradients::add_up", "NormOperation", "Loss::row", "softmax_row"] {
        assert_eq!(closures_of(&functions, function), [] as [&String; 0]);
    }
}
