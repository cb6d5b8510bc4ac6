//! Files that are broken, too large, or beyond what is supported: each is refused with its reason.

use chainrule_engine::artifact::onnx::{OnnxError, onnx_bytes, read_onnx, seeded_images};
use chainrule_engine::nn::{Predictor, Shape};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::fixture;
use super::messages::{
    bytes, file, floats, int, integer, integers, ints, node, small, tensor, value, weight,
};

const FIXTURES: [&str; 3] = ["torch_mlp_script.onnx", "torch_cnn_dynamo.onnx", "keras_cnn.onnx"];

/// The reason why a file is refused.
fn refusal(file: &[u8]) -> String {
    read_onnx(file, None).expect_err("a refusal").to_string()
}

fn dense() -> Vec<u8> {
    node("MatMul", &["flat", "w"], "y", &[])
}

#[test]
fn a_small_file_is_read_so_that_its_variants_are_refused_for_their_reason() {
    let read = read_onnx(&small(&[weight(), dense()]), None).expect("a network");
    assert_eq!(
        (read.network.input(), read.network.outputs()),
        (Shape { height: 4, width: 4, channels: 1 }, 2)
    );
    let images = seeded_images(read.network.input(), 3);
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let predictor = Predictor::new(read.network.clone());
    read.check(&predictor, &images, &|| true).expect("the same probabilities");
    let other = Predictor::new(
        chainrule_engine::nn::Network::new(read.network.input(), &read.layers, 1).expect("fits"),
    );
    assert!(matches!(read.check(&other, &images, &|| true), Err(OnnxError::Differs { .. })));
    assert!(matches!(read.check(&predictor, &images, &|| false), Err(OnnxError::Stopped)));
}

#[test]
fn another_operator_is_refused_with_the_name_of_its_node() {
    let squashed = node("Softplus", &["scores"], "y", &[]);
    let dense = node("MatMul", &["flat", "w"], "scores", &[]);
    assert_eq!(
        refusal(&small(&[weight(), dense, squashed])),
        "node \"y\" (Softplus): this operator is not supported"
    );
    let elsewhere =
        bytes(1, [bytes(1, "flat"), bytes(2, "y"), bytes(4, "Fused"), bytes(7, "com.acme")].concat());
    assert!(refusal(&small(&[elsewhere])).contains("\"com.acme\""));
}

#[test]
fn what_a_chain_of_layers_cannot_do_is_refused() {
    let sum = |parts: &[Vec<u8>]| refusal(&small(&[&[weight()], parts].concat()));
    let cases = [
        (
            vec![
                node("Relu", &["flat"], "a", &[]),
                node("Add", &["a", "flat"], "b", &[]),
                node("MatMul", &["b", "w"], "y", &[]),
            ],
            "one chain",
        ),
        (vec![node("MatMul", &["w", "flat"], "y", &[])], "its input 0 must be computed from the images"),
        (vec![node("Erf", &["flat"], "a", &[]), node("MatMul", &["a", "w"], "y", &[])], "part of gelu"),
        (vec![node("Softmax", &["flat"], "a", &[]), node("MatMul", &["a", "w"], "y", &[])], "softmax"),
        (vec![node("Relu", &["flat"], "y", &[])], "last layer must be dense"),
        (
            vec![
                node("Transpose", &["flat"], "a", &[ints("perm", &[1, 0])]),
                node("MatMul", &["a", "w"], "y", &[]),
            ],
            "one row for each image",
        ),
        (vec![node("MatMul", &["x", "w"], "y", &[])], "one row for each image"),
        (vec![node("Gemm", &["flat", "w"], "y", &[int("transB", 1)])], "for 2 inputs, but there are 16"),
        (vec![node("Gemm", &["flat", "w"], "y", &[int("strange", 1)])], "\"strange\" is not supported"),
        (vec![node("Identity", &["w"], "y", &[])], "does not depend on its input"),
    ];
    for (parts, expected) in cases {
        let found = sum(&parts);
        assert!(found.contains(expected), "{found}, not {expected}");
    }
}

#[test]
fn graphs_with_undefined_names_cycles_and_duplicates_are_refused() {
    let cycle = [node("Relu", &["b"], "a", &[]), node("Relu", &["a"], "b", &[]), dense()];
    let cases = [
        (small(&[&[weight()], &cycle[..]].concat()), "\"b\", which nothing before it gives"),
        (small(&[dense()]), "\"w\", which nothing before it gives"),
        (small(&[weight(), node("Relu", &["flat"], "flat", &[]), dense()]), "already gives \"flat\""),
        (small(&[weight(), weight(), dense()]), "two of its constants have the same name"),
        (small(&[weight()]), "no node gives its output \"y\""),
        (small(&[weight(), node("MatMul", &["flat", "w"], "", &[])]), "no output"),
    ];
    for (file, expected) in cases {
        let found = refusal(&file);
        assert!(found.contains(expected), "{found}, not {expected}");
    }
}

#[test]
fn tensors_are_checked_before_they_are_allocated() {
    let large = 1 << 40;
    let with = |tensor: Vec<u8>| refusal(&small(&[tensor, dense()]));
    let location =
        [bytes(13, [bytes(1, "location"), bytes(2, "/etc/passwd")].concat()), integer(14, 1)].concat();
    let cases = [
        (floats("w", &[large], &[1.0]), "has 1 elements"),
        (floats("w", &[large, large], &[1.0]), "too many elements"),
        (floats("w", &[-2, 2], &[1.0]), "dimension -2"),
        (floats("w", &[16, 2], &[1.0; 31]), "has 31 elements, its shape [16, 2] needs 32"),
        (floats("w", &[1; 9], &[1.0]), "9 axes"),
        (floats("w", &[1], &[f32::NAN]), "infinite number or NaN"),
        (floats("w", &[1], &[f32::INFINITY]), "infinite number or NaN"),
        (tensor("w", &[16, 2], 10, &bytes(9, [0; 64])), "is of float16"),
        (tensor("w", &[1], 8, &bytes(6, "text")), "is of string"),
        (tensor("w", &[16, 2], 1, &location), "in another file"),
        (tensor("w", &[16, 2], 1, &bytes(9, [0; 127])), "has 31 elements"),
        (integers("w", &[i64::MAX]), "above 2^53"),
    ];
    for (tensor, expected) in cases {
        let found = with(tensor);
        assert!(found.contains(expected), "{found}, not {expected}");
    }
    let wide = tensor("w", &[16, 2], 11, &bytes(9, [1e39_f64; 32].map(f64::to_le_bytes).concat()));
    assert!(with(wide).contains("32-bit floats"));
}

#[test]
fn computed_constants_and_shapes_have_limits() {
    let many: Vec<f32> = vec![1.0; 4_000];
    let grown = [
        floats("a", &[4_000, 1], &many),
        floats("b", &[1, 4_000], &many),
        node("Add", &["a", "b"], "w", &[]),
    ];
    assert!(refusal(&small(&[&grown[..], &[dense()]].concat())).contains("too large"));
    let axes = ints("axes", &[0; 100_000]);
    let deep = [floats("a", &[1], &[1.0]), node("Unsqueeze", &["a"], "w", &[axes]), dense()];
    assert!(refusal(&small(&deep)).contains("axes"));
    let input = |sides: &[i64]| {
        let ends = [value(11, "flat", 1, sides), value(12, "y", 1, &[0, 2])];
        refusal(&file(&[&ends[..], &[weight(), dense()]].concat()))
    };
    for (sides, expected) in [
        (&[0, 1 << 40, 1 << 40][..], "more than 65536 pixels"),
        (&[0, 4, 0], "free dimension"),
        (&[0, 3, 4, 4], "grey images"),
        (&[0, 15], "grey images"),
        (&[8, 16], "always 8 images"),
        (&[], "no shape"),
    ] {
        let found = input(sides);
        assert!(found.contains(expected), "{found}, not {expected}");
    }
    let windows = |settings: &[Vec<u8>]| {
        let parts = [
            floats("k", &[1, 1, 3, 3], &[1.0; 9]),
            integers("image", &[-1, 1, 4, 4]),
            node("Reshape", &["x", "image"], "i", &[]),
            node("Conv", &["i", "k"], "y", settings),
        ];
        refusal(&small(&parts))
    };
    for (settings, expected) in [
        (ints("pads", &[1 << 40; 4]), "pads has 4 numbers"),
        (ints("pads", &[60_000; 4]), "pads are [60000"),
        (ints("pads", &[2, 2, 0, 0]), "or [1, 1, 1, 1] are supported"),
        (ints("strides", &[0, 0]), "strides has 2 numbers"),
        (ints("strides", &[1, 2]), "only squares"),
        (ints("dilations", &[2, 2]), "dilations"),
        (int("group", 2), "group is 2"),
        (ints("kernel_shape", &[5, 5]), "only squares"),
    ] {
        let found = windows(&[settings]);
        assert!(found.contains(expected), "{found}, not {expected}");
    }
}

#[test]
fn a_file_has_a_price_before_it_is_decoded() {
    // 60 bytes of a file can make 100 times as many bytes of nodes.
    let empty = |count: usize| small(&[bytes(1, []).repeat(count)]);
    let price = onnx_bytes(&empty(50_000)).expect("a price");
    assert!(price > 50_000 * 100, "{price}");
    assert!(
        onnx_bytes(&empty(1_000_000)).expect_err("too many").to_string().contains("more than 100000 nodes")
    );
    assert!(refusal(&empty(1_000_000)).contains("more than 100000 nodes"));
    for (broken, expected) in [
        (&b""[..], "no graph"),
        (b"\x08\x08", "no graph"),
        (b"\x3a\x7f\x00", "in the middle"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "in the middle"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "64 bits"),
        (b"\x0b\x0c", "wire type 3"),
        (b"not an onnx file", ""),
    ] {
        let found = refusal(broken);
        assert!(found.contains(expected) && found.starts_with("not an ONNX file"), "{found}, not {expected}");
    }
    for opset in [6, 29] {
        let opset = bytes(8, [bytes(1, ""), integer(2, opset)].concat());
        let old = [integer(1, 8), bytes(7, []), opset].concat();
        assert!(refusal(&old).contains("is not supported, only 7 to"), "{}", refusal(&old));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// It may still be a network. Then it can be computed, or the check says why not.
    #[test]
    fn a_damaged_file_never_panics(
        name in prop::sample::select(&FIXTURES),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        is_in_head: bool,
    ) {
        let mut file = fixture(name);
        // The nodes are at the end of the head of a file or at its start, depending on the program; weights are most of it.
        let range = if is_in_head { file.len().min(3_000) } else { file.len() };
        for (place, byte) in damage {
            let place = place.index(range);
            file[place] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let _ = onnx_bytes(&file);
        if let Ok(read) = read_onnx(&file, None) {
            let images = seeded_images(read.network.input(), 1);
            let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
            let _ = read.check(&Predictor::new(read.network.clone()), &images, &|| true);
        }
    }
}
