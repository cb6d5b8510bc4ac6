use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::images::ReadyImages;
use super::*;
use crate::nn::Shape;
use crate::service::{Prediction, Predictions, UnreadImages};

const LIMITS: InferLimits = InferLimits { images_max: 8, pictures_max: 2 };

fn model() -> Interface {
    let image = Shape { height: 2, width: 3, channels: 1 };
    Interface { model: "digits".to_owned(), version: 1, image, classes: 2 }
}

fn request(datatype: &str, shape: &[i64], contents: Contents) -> InferRequest {
    let (name, datatype, shape) = (INPUT.to_owned(), datatype.to_owned(), shape.to_vec());
    InferRequest {
        id: None,
        parameters: Parameters::new(),
        inputs: vec![InferInput { name, datatype, shape, contents }],
        outputs: Vec::new(),
        held: Arc::new(()),
    }
}

fn read(request: InferRequest) -> Result<Vec<f32>, String> {
    let images = check(request, &model(), 0, LIMITS).map_err(|error| error.to_string())?.images;
    let images = ReadyImages::of_numbers(images);
    assert!(images.images_max() <= LIMITS.images_max);
    images.read(LIMITS.images_max).map(|x| x.into_raw_vec_and_offset().0).map_err(|error| error.to_string())
}

#[test]
fn shapes_of_the_same_image_are_accepted_and_others_get_advice() {
    let bytes = |count: usize| Contents::Raw(vec![255; 6 * count].into());
    for shape in [&[2, 2, 3][..], &[2, 6], &[2, 2, 3, 1], &[2, 1, 2, 3]] {
        assert_eq!(read(request("UINT8", shape, bytes(2))), Ok(vec![1.0; 12]), "{shape:?}");
    }
    for (shape, advice) in [
        (&[6][..], "send [1,6]"),
        (&[2, 3], "send [1,6]"),
        (&[3, 2, 2], "send [2,6]"),
        (&[1, 2, 3, 3], "send [3,6]"),
        (&[5], "got [5]"),
        (&[i64::MAX, i64::MAX], "got ["),
        (&[i64::MAX, 6], "batch-size"),
        (&[0, 6], "batch-size"),
        (&[9, 6], "batch-size"),
    ] {
        let error = read(request("UINT8", shape, bytes(1))).expect_err("a fault");
        assert!(error.contains(advice), "{shape:?}: {error}");
    }
    let color = Interface { image: Shape { height: 2, width: 3, channels: 3 }, ..model() };
    assert_eq!(color.input().shape, [-1, 2, 3, 3]);
    assert_eq!((color.images(&[4, 18]), color.images(&[4, 3, 2, 3])), (Some(4), None));
    let vector = Interface { image: Shape::vector(5), ..model() };
    assert_eq!((vector.input().shape, vector.images(&[7, 5])), (vec![-1, 5], Some(7)));
}

#[test]
fn numbers_of_any_datatype_become_the_same_values() {
    let bytes: Vec<u8> = vec![0, 1, 2, 100, 254, 255];
    let expected: Vec<f32> = crate::data::to_unit(&bytes).collect();
    let singles = bytes.iter().flat_map(|&byte| f32::from(byte).to_le_bytes()).collect::<Vec<u8>>();
    let doubles = bytes.iter().flat_map(|&byte| f64::from(byte).to_le_bytes()).collect::<Vec<u8>>();
    let json = Contents::Json("[[0,1.0,2],[1e2,254,255]]".into());
    for (datatype, contents) in [
        ("UINT8", Contents::Raw(bytes.into())),
        ("FP32", Contents::Raw(singles.into())),
        ("FP64", Contents::Raw(doubles.into())),
        ("UINT8", json.clone()),
        ("FP32", json),
    ] {
        assert_eq!(read(request(datatype, &[1, 6], contents)), Ok(expected.clone()), "{datatype}");
    }
    for wrong in [f32::NAN, f32::INFINITY, -1.0, 255.1] {
        let raw: Vec<u8> =
            [0.0, wrong, 0.0, wrong, 0.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let error = read(request("FP32", &[1, 6], Contents::Raw(raw.into()))).expect_err("a fault");
        assert!(error.contains("2 of its 6 elements") && error.contains("element 1 of image 0"), "{error}");
    }
}

#[test]
fn the_price_of_json_counts_no_more_images_than_it_can_have() {
    let text = Contents::Json("[0]".into());
    let images = check(request("UINT8", &[8, 6], text), &model(), 0, LIMITS).expect("it fits").images;
    assert_eq!(ReadyImages::of_numbers(images).images_max(), 1);
}

#[test]
fn equal_classes_are_in_the_order_of_their_numbers() {
    let prediction = |probabilities: &[f32]| Prediction {
        label: 0,
        class: "a".to_owned(),
        confidence: 0.5,
        probabilities: probabilities.to_vec(),
        labels: None,
    };
    let predictions = |values: &[f32]| Predictions {
        model: "digits".to_owned(),
        version: 3,
        predictions: vec![prediction(values)],
    };
    let names = ["a", "b", "c"].map(str::to_owned);
    let response = answer(None, predictions(&[0.25, 0.5, 0.25]), &[Output::Classification(3)], &names);
    let response = response.expect("a response");
    assert_eq!((response.model_version.as_str(), &response.outputs[0].shape), ("3", &vec![1, 3]));
    let Values::Bytes(bytes) = &response.outputs[0].values else { panic!("{response:?}") };
    let texts: Vec<&[u8]> = byte_elements(bytes).collect();
    assert_eq!(texts, [b"0.500000:1:b", b"0.250000:0:a", b"0.250000:2:c"]);
    for wrong in [f32::NAN, f32::INFINITY] {
        let response = answer(None, predictions(&[wrong, 0.0]), &[Output::Probabilities], &[]);
        assert!(matches!(response, Err(InferError::NotFinite)));
    }
}

proptest! {
    /// Whatever a request has, it is read or refused.
    #[test]
    fn no_tensor_makes_the_server_panic(
        datatype in prop::sample::select(Datatype::ALL.map(Datatype::name).to_vec()),
        shape in prop::collection::vec(prop_oneof![0..9_i64, any::<i64>()], 0..5),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        json in "[\\[\\], 0-9.eE+\"tn{-]{0,40}",
        is_raw in any::<bool>(),
    ) {
        let contents = if is_raw { Contents::Raw(Bytes::from(bytes)) } else { Contents::Json(json.into()) };
        if datatype != "BYTES" {
            let _ = read(request(datatype, &shape, contents));
        }
    }
}
