use ndarray::{Array2, ArrayView2};

use super::*;
use crate::nn::{Draw, Images};

fn split(count: usize, labels: &[u16]) -> Result<Split, DataError> {
    Split::new(Array2::from_shape_fn((count, IMAGE_PIXELS), |(row, _)| row as u8), labels.to_vec())
}

#[test]
fn a_split_refuses_unpaired_images_and_labels() {
    assert_eq!(split(2, &[0]), Err(DataError::Unpaired { images: 2, labels: 1 }));
    assert_eq!(split(0, &[]), Err(DataError::Empty));
    assert_eq!(Split::new(Array2::zeros((1, 783)), vec![0]), Err(DataError::WrongPixels { found: 783 }));
}

#[test]
fn a_split_gives_an_image_whatever_the_order_of_the_array_was() {
    let transposed = Array2::from_shape_fn((IMAGE_PIXELS, 2), |(_, image)| image as u8).reversed_axes();
    let split = Split::new(transposed, vec![0, 1]).unwrap();
    assert_eq!(split.image(0), [0; IMAGE_PIXELS]);
    assert_eq!(split.image(1), [1; IMAGE_PIXELS]);
    assert_eq!(split.len(), 2);
}

#[test]
fn a_dataset_refuses_a_label_without_class() {
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let dataset =
        Dataset::new("ab".to_owned(), classes, split(2, &[0, 1]).unwrap(), split(2, &[1, 2]).unwrap());
    let error = dataset.unwrap_err();
    assert_eq!(error, DataError::UnknownLabel { split: SplitName::Test, index: 1, label: 2, classes: 2 });
    assert_eq!(error.to_string(), "the test split has the label 2 at 1, there are 2 classes");
}

#[test]
fn a_data_set_has_a_thousand_classes_at_most() {
    let of = |classes: usize| {
        let names = (0..classes).map(|class| class.to_string()).collect();
        Dataset::new("many".to_owned(), names, split(1, &[0]).unwrap(), split(1, &[0]).unwrap())
    };
    assert_eq!(of(CLASSES_MAX).unwrap().shape().classes, 1_000);
    assert_eq!(of(CLASSES_MAX + 1).unwrap_err(), DataError::TooManyClasses(1_001));
}

#[test]
fn statistics_are_of_the_training_pixels() {
    let train = split(2, &[1, 1]).unwrap();
    let dataset =
        Dataset::new("ab".to_owned(), vec!["a".to_owned(), "b".to_owned()], train, split(1, &[0]).unwrap());
    let statistics = dataset.unwrap().statistics().clone();
    assert_eq!(statistics.splits.train.per_class, [0, 2]);
    assert_eq!(statistics.splits.test, ClassCounts { examples: 1, per_class: vec![1, 0] });
    assert!((statistics.mean - 0.5 / 255.0).abs() < 1e-12);
    assert!((statistics.deviation - 0.5 / 255.0).abs() < 1e-12);
    assert_eq!(statistics.nonzero_fraction, 0.5);
}

#[test]
fn a_split_is_parsed_from_its_name() {
    for name in [SplitName::Train, SplitName::Test] {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    let unknown = "Train".parse::<SplitName>().unwrap_err();
    assert_eq!(unknown.to_string(), "unknown split \"Train\", there are train and test");
}

/// Trained weights depend on the bits of the product, and predictions on those of the quotient.
#[test]
fn a_pixel_is_multiplied_in_training_and_divided_for_a_prediction() {
    let bytes: Vec<u8> = (0..=255).collect();
    let images = ArrayView2::from_shape((1, 256), &bytes).unwrap();
    let mut trained = [0.0_f32; 256];
    images.write(0, Draw::default(), &mut trained);
    let mut larger = 0;
    for ((&byte, product), quotient) in bytes.iter().zip(trained).zip(to_unit(&bytes)) {
        assert_eq!(product, f32::from(byte) * (1.0 / 255.0), "{byte}");
        // A client divides, and its number is rounded to f32.
        assert_eq!(quotient, (f64::from(byte) / 255.0) as f32, "{byte}");
        let units = product.to_bits() - quotient.to_bits();
        assert!(units <= 1, "{byte}: {product} and {quotient}");
        larger += units;
    }
    assert_eq!((trained[0], trained[255], larger), (0.0, 1.0, 126));
}
