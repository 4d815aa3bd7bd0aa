//! What the repeated fields of a message take in memory once it is decoded: an entry of two bytes may become a hundred. It is
//! counted on the wire, before anything is decoded.

use longhand_proto::v1;

/// Most bytes that the entries of one message may take. The largest legitimate message, half the message limit of a worker's
/// checkpoints, takes that of five bytes a token.
pub(super) const MAX_ENTRY_BYTES: usize = 8 << 20;

/// A field that has entries, or a message that has such fields. All others take what they have on the wire.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// `repeated` numbers of 32 bits.
    Numbers,
    /// `repeated` strings.
    Texts,
    /// A message.
    One(&'static [(u64, Field)]),
    /// `repeated` messages, each of that many bytes.
    Many(&'static [(u64, Field)], usize),
}

use Field::{Many, Numbers, One, Texts};

const CHECKPOINT: &[(u64, Field)] = &[(1, Numbers), (3, Many(&[], size_of::<v1::Backtrack>()))];

/// The fields of a request that have entries, by their numbers. A test compares them with the protocol files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries(&'static [(u64, Field)]);

impl Entries {
    /// Those of the request of a call.
    pub(super) fn of(path: &str) -> Self {
        Self(match path.rsplit('/').next().unwrap_or_default() {
            "Lease" | "Complete" => &[(7, Numbers)],
            "Renew" => &[
                (2, Many(&[(3, One(CHECKPOINT)), (4, One(CHECKPOINT))], size_of::<v1::Renewal>())),
                (3, One(&[(18, Numbers)])),
            ],
            "Release" => &[(3, One(CHECKPOINT))],
            "AddRows" => &[(3, Many(&[], size_of::<v1::Row>()))],
            "LoadRun" => &[(2, Texts)],
            _ => &[],
        })
    }

    /// Bytes of the entries in this message. One that is invalid from some place on is counted up to there, as far as it is
    /// decoded.
    pub(super) fn bytes(self, message: &[u8]) -> usize {
        bytes(self.0, message)
    }
}

fn bytes(fields: &[(u64, Field)], mut rest: &[u8]) -> usize {
    let mut total = 0_usize;
    while let Some(key) = varint(&mut rest) {
        let field = fields.iter().find(|(number, _)| *number == key >> 3).map(|(_, field)| *field);
        let value = match key & 7 {
            0 => varint(&mut rest).map(|_| &[][..]),
            1 => rest.split_off(..8),
            2 => varint(&mut rest).and_then(|length| rest.split_off(..usize::try_from(length).ok()?)),
            // What is in a group is counted as if it were not in one.
            3 | 4 => continue,
            5 => rest.split_off(..4),
            _ => None,
        };
        let Some(value) = value else { break };
        total = total.saturating_add(match field {
            // Packed, each number ends with a byte without the highest bit.
            Some(Numbers) if key & 7 == 2 => 4 * value.iter().filter(|byte| **byte < 0x80).count(),
            Some(Numbers) => 4,
            Some(Texts) => size_of::<String>(),
            Some(One(fields)) => bytes(fields, value),
            Some(Many(fields, size)) => size.saturating_add(bytes(fields, value)),
            None => 0,
        });
    }
    total
}

/// Takes a number off the front.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64_u32).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;

    const PROTOCOLS: [&str; 2] = [
        include_str!("../../../../../proto/proto/longhand/v1/coordinator.proto"),
        include_str!("../../../../../proto/proto/longhand/v1/operator.proto"),
    ];

    /// The fields of each message in the protocol files that have entries.
    fn messages() -> BTreeMap<&'static str, Vec<(bool, &'static str, u64)>> {
        let mut messages = BTreeMap::new();
        let mut name = "";
        for line in PROTOCOLS.iter().flat_map(|text| text.lines()) {
            let words: Vec<_> = line.trim_end_matches(';').split_whitespace().collect();
            match words[..] {
                ["message", message, ..] => name = message,
                ["repeated", kind, _, "=", number] => {
                    messages.entry(name).or_insert_with(Vec::new).push((true, kind, number.parse().unwrap()));
                }
                [kind, _, "=", number] => {
                    messages.entry(name).or_insert_with(Vec::new).push((false, kind, number.parse().unwrap()));
                }
                _ => {}
            }
        }
        messages
    }

    fn expected(messages: &BTreeMap<&'static str, Vec<(bool, &'static str, u64)>>, message: &str) -> Vec<String> {
        let fields = messages.get(message).into_iter().flatten();
        let describe = |(repeated, kind, number): &(bool, &str, u64)| {
            let inner = messages.contains_key(kind).then(|| expected(messages, kind));
            match (repeated, inner) {
                (true, None) if *kind == "string" => Some(format!("{number} texts")),
                (true, None) if ["uint32", "TaskKind"].contains(kind) => Some(format!("{number} numbers")),
                (true, None) => panic!("{message}: repeated {kind} has no size"),
                (true, Some(inner)) => Some(format!("{number} many {inner:?}")),
                (false, Some(inner)) => (!inner.is_empty()).then(|| format!("{number} one {inner:?}")),
                (false, None) => None,
            }
        };
        fields.filter_map(describe).collect()
    }

    fn described(fields: &[(u64, Field)]) -> Vec<String> {
        let describe = |(number, field): &(u64, Field)| match field {
            Numbers => format!("{number} numbers"),
            Texts => format!("{number} texts"),
            One(fields) => format!("{number} one {:?}", described(fields)),
            Many(fields, _) => format!("{number} many {:?}", described(fields)),
        };
        fields.iter().map(describe).collect()
    }

    #[test]
    fn every_repeated_field_of_every_request_is_counted() {
        let messages = messages();
        let calls = PROTOCOLS.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().strip_prefix("rpc "));
        let mut counted = 0;
        for call in calls {
            let (name, rest) = call.split_once('(').unwrap();
            let request = rest.split_once(')').unwrap().0;
            assert_eq!(described(Entries::of(&format!("/s/{name}")).0), expected(&messages, request), "{name}");
            counted += usize::from(!expected(&messages, request).is_empty());
        }
        assert_eq!(counted, 6);
    }

    #[test]
    fn entries_are_counted_as_they_are_decoded() {
        let checkpoint = v1::Checkpoint {
            tokens: vec![1, 200, u32::MAX],
            tokenizer_hash: "x".repeat(300),
            backtracks: vec![v1::Backtrack::default(); 2],
        };
        let lease_id = "a".into();
        let renewal = v1::Renewal { lease_id, progress: 1, checkpoint: Some(checkpoint), appended: None, from: 0 };
        let kinds = vec![1, 2, 3, -1];
        let vitals = v1::Vitals { kinds, tokens_per_second: 1.5, ..v1::Vitals::default() };
        let request = v1::RenewRequest { worker: "w".into(), renewals: vec![renewal; 5], vitals: Some(vitals) };
        let size = 5 * (size_of::<v1::Renewal>() + 3 * 4 + 2 * size_of::<v1::Backtrack>()) + 4 * 4;
        let (renew, message) = (Entries::of("/longhand.v1.Coordinator/Renew"), request.encode_to_vec());
        assert_eq!(renew.bytes(&message), size);
        assert!((0..message.len()).all(|end| renew.bytes(&message[..end]) <= size));
        // Numbers that are not packed, and a group that hides them.
        assert_eq!(Entries::of("Lease").bytes(&[0x38, 1, 0x38, 2, 0x3b, 0x38, 1, 0x3c]), 12);
        assert_eq!(renew.bytes(&[0x12, 0].repeat(1_000)), 1_000 * size_of::<v1::Renewal>());
        assert_eq!(Entries::of("LoadRun").bytes(&[0x12, 0].repeat(1_000)), 1_000 * size_of::<String>());
    }
}
