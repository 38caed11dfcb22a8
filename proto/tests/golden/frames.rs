//! What every frame has to bear: the way there and back, its limit, its version, whatever a disk or a peer does.

use stead_proto::codec::{self, CodecError, VERSION};

use crate::{all, samples};

#[test]
fn each_sample_is_read_back_as_it_was_written() {
    for sample in samples() {
        let read = sample.read(&sample.frame).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert!(read.is_the_sample, "{} is read as something else", sample.name);
        assert_eq!(read.frame, sample.frame, "{}", sample.name);
    }
}

#[test]
fn each_sample_fits_its_limit_and_no_smaller_one() {
    for sample in samples() {
        let bytes = sample.frame.len();
        assert!(bytes <= sample.bytes_max, "{}: {bytes} bytes", sample.name);
        assert!((sample.reread)(&sample.frame, bytes).is_ok(), "{}", sample.name);
        let refused = (sample.reread)(&sample.frame, bytes - 1).err();
        assert_eq!(refused, Some(CodecError::TooLong { bytes, bytes_max: bytes - 1 }), "{}", sample.name);
    }
}

#[test]
fn one_byte_more_is_refused() {
    for sample in samples() {
        for byte in [0, 1, u8::MAX] {
            let longer = [&sample.frame[..], &[byte]].concat();
            assert_eq!(sample.read(&longer).err(), Some(CodecError::Malformed), "{}", sample.name);
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for sample in samples() {
        for bytes in 0..sample.frame.len() {
            let refused = sample.read(&sample.frame[..bytes]).err();
            assert_eq!(refused, Some(CodecError::Malformed), "{} cut to {bytes} bytes", sample.name);
        }
    }
}

#[test]
fn every_other_version_is_refused_by_its_number() {
    for sample in samples() {
        assert_eq!(sample.frame[0], VERSION, "{}", sample.name);
        for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
            let mut frame = sample.frame.clone();
            frame[0] = version;
            assert_eq!(sample.read(&frame).err(), Some(CodecError::Version(version)), "{}", sample.name);
        }
    }
}

#[test]
fn another_version_is_told_apart_before_anything_else_is_read() {
    let older = VERSION.checked_sub(1).expect("versions begin at 1");
    // Nothing was ever written as version 0, so there is no earlier one to be read yet.
    for version in [older, VERSION + 1] {
        for body in [&[][..], &[0xff; 40]] {
            let frame = [&[version], body].concat();
            assert_eq!(codec::decode::<u64>(&frame, 100), Err(CodecError::Version(version)));
        }
    }
}

#[test]
fn an_unknown_variant_is_refused_whatever_follows_it() {
    for known in all().enums {
        let body = [0; 200];
        for tag in known.count..=u8::MAX {
            for bytes in 0..body.len() {
                let frame = [&[VERSION, tag], &body[..bytes]].concat();
                // Beyond 250 the byte says how wide the number is that follows.
                let is_wide = (251..=253).contains(&tag);
                assert!(is_wide || !(known.is_read)(&frame), "{} {tag}", known.name);
            }
        }
    }
}
